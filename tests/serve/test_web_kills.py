"""`kill -9` of the process that answers, with the model in it, while updates come: afterwards what
answers is whole, and what was acknowledged is kept. FASTSLOW_WEB_KILLS says how often."""

import os
import random
import threading
import time
import urllib.error
from http.client import HTTPException

import pytest
from engined import RealChain, chat, said_alone
from live_kills import check_served
from local_processes import until
from running import Running
from sqlalchemy import select

from fastslow.feedback import Store
from fastslow.feedback.schema import answers
from fastslow.serve.bodies import DEFAULT_DOMAIN

pytestmark = [pytest.mark.slow, pytest.mark.processes]
KILLS = int(os.environ.get("FASTSLOW_WEB_KILLS", 3))
ANSWERS = 4
"""Answered questions before a kill, however long they take."""
ASKED = ("Hi", "A song of the river")


def ask_until_it_dies(server, text, done, acknowledged, failed):
    while not done.is_set():
        try:
            reply = server.ask("/v1/chat/completions", chat(text))
        except urllib.error.HTTPError as error:
            failed.append(error)
            return
        except (OSError, ValueError, HTTPException):
            return
        (number,) = reply["answer_ids"]
        said = reply["choices"][0]["message"]["content"]
        acknowledged[number] = (text, reply["model"], said)


def test_kills_of_what_answers_leave_it_whole_and_lose_nothing(tmp_path, model_folder):
    folder, draw = tmp_path / "live", random.Random(4)
    acknowledged, failed, models = {}, [], set()
    with Store(folder) as store:
        chain = RealChain(folder, store, model_folder)
        made = [chain.promote(DEFAULT_DOMAIN) for _ in range(2)]
        for _ in range(KILLS):
            server = Running(folder, f"model={model_folder}", "data.max_length=64")
            assert server.ask("/v1/chat/completions", chat("Hi"))["model"] == made[-1].adapter
            done = threading.Event()
            clients = [
                threading.Thread(
                    target=ask_until_it_dies, args=(server, text, done, acknowledged, failed)
                )
                for text in ASKED * 2
            ]
            [client.start() for client in clients]
            made.append(chain.promote(DEFAULT_DOMAIN))
            enough = len(acknowledged) + ANSWERS
            until(lambda enough=enough: failed or len(acknowledged) >= enough)
            time.sleep(draw.uniform(0, 0.6))  # It follows within a quarter of a second.
            server.process.kill()
            done.set()
            [client.join() for client in clients]
            server.process.wait(30)
            check_served(folder)
        with store.read() as connection:
            kept = {row.id: row for row in connection.execute(select(answers)) if row.model}
    assert failed == [] and acknowledged.keys() <= kept.keys()
    alone = said_alone(model_folder, folder, made, ASKED)
    right = {one.adapter: (one.adapter_sha256, one.id) for one in made}
    for number, (text, model, said) in acknowledged.items():
        row = kept[number]
        assert (row.model, row.text) == (model, said)
        assert (row.adapter_sha256, row.update_id) == right[model]
        assert (tuple(row.token_ids), row.logp_sum) == alone[row.update_id][text]
        models.add(model)
    assert len(acknowledged) > 3 * KILLS and len(models) > 1
