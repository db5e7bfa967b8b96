"""Where results live: experiments' records and checkpoints in MongoDB, and the server that holds
them.
"""
