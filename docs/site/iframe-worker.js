// Browsers start no worker for a page that was opened from a file, and the search runs in a worker. There, this
// class runs the worker's script in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc =
        "<script>postMessage = data => parent.postMessage(data, '*')</" + "script>" +
        `<script src="${new URL(url, location.href)}"></` + "script>"
      this.ready = new Promise(resolve => this.frame.addEventListener("load", resolve))
      document.body.appendChild(this.frame)
      window.addEventListener("message", event => {
        if (event.source !== this.frame.contentWindow) return
        const answer = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(answer)
        if (this.onmessage) this.onmessage(answer)
      })
    }

    postMessage(data) {
      this.ready.then(() => {
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
      })
    }

    terminate() {
      this.frame.remove()
    }
  }
}
