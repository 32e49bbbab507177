"""`fastslow demo --live`: a server, people of known taste who vote on its answers, and some of them
who turn.

`person` is somebody with a token, over HTTP; `story` is what they do and what comes of it.
"""
