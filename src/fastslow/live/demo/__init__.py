"""`fastslow demo --live`: people of known taste vote on a server's answers; some of them turn.

`person` is a client with a token, over HTTP; `story` is what people do and what happens.
"""
