// MathJax is loaded on pages with formulas only, from beside this script.
(() => {
  const script = document.currentScript
  if (!document.querySelector(".arithmatex")) return
  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
    options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false },
  }
  const mathjax = document.createElement("script")
  mathjax.src = new URL("mathjax.js", script.src)
  document.head.appendChild(mathjax)
})()
