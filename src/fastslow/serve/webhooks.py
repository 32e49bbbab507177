"""Sends messages to another server: signed, and retried until it has them."""

import json
from datetime import UTC, datetime

import httpx2
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from fastslow.errors import ConfigError
from fastslow.feedback import outbox
from fastslow.serve.live import Live

TIMEOUT = 10.0


def check_webhook(url: str, secret: str | None) -> None:
    """Raise ConfigError for an unusable URL or secret."""
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"--webhook: {url} is not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"--webhook: got {url}; must be https://HOST/PATH, or http")
    try:
        Webhook(secret or "")
    except (ValueError, EmptyWebhookSecretError):
        raise ConfigError(
            "--webhook needs its secret in $FASTSLOW_WEBHOOK_SECRET, 24 bytes or more in base64"
        ) from None


async def send(live: Live) -> None:
    """Send the messages that are due."""
    settings = live.settings
    assert settings.webhook is not None
    signer = Webhook(settings.webhook_secret or "")
    async with httpx2.AsyncClient(timeout=TIMEOUT, follow_redirects=False) as client:
        for message in await live.read(outbox.due, now=live.clock()):
            name, at = f"msg_{message.id}", datetime.fromtimestamp(live.clock(), UTC)
            text = json.dumps({"type": message.kind, "data": message.body})
            headers = {
                "content-type": "application/json",
                "webhook-id": name,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": signer.sign(name, at, text),
            }
            try:
                reply = await client.post(settings.webhook, content=text, headers=headers)
                sent = reply.is_success
            except (httpx2.HTTPError, httpx2.InvalidURL):
                sent = False
            await live.write(outbox.was_sent, message_id=message.id, sent=sent)
