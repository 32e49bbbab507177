"""A server that shares its store and its engine with others."""

import json

from fastapi.testclient import TestClient

from fastslow.feedback import Store
from fastslow.serve import Live, Settings, make_app
from fastslow.serve.engine.remote import RemoteEngine


class SharingServer:
    """What `fastslow serve --store URL --engine URL` runs, in this process."""

    def __init__(self, url, folder, engine, prompts=(), **settings):
        self.store = Store(url)
        self.engine = RemoteEngine(engine.url, holds=self.store.holds())
        self.live = Live(
            self.store, Settings(**settings), engine=self.engine, prompts=prompts, folder=folder
        )
        self.client = TestClient(make_app(self.live), base_url="http://localhost")

    def __enter__(self):
        self.client.__enter__()
        return self

    def __exit__(self, *_):
        self.client.__exit__(None, None, None)
        self.engine.close()
        self.store.close()

    def post(self, token, path, body, **headers):
        headers = {"Authorization": f"Bearer {token}", **headers}
        reply = self.client.post(path, json=body, headers=headers)
        assert reply.is_success, reply.text
        return reply

    def chat(self, token):
        """The model that a streamed answer names, and what it says."""
        body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
        reply = self.post(token, "/v1/chat/completions", body)
        events = [
            json.loads(line.removeprefix("data: "))
            for line in reply.text.splitlines()
            if line.startswith("data: {")
        ]
        assert not [one for one in events if "error" in one], reply.text
        deltas = [c["delta"].get("content", "") for one in events for c in one.get("choices", ())]
        return events[0]["model"], "".join(deltas)
