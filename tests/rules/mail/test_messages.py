"""A letter becomes a message for each way to a contact, under a key that is the same every time."""

from __future__ import annotations

from scheduler.rules.mail.messages import Letter, Message, message_id, messages_to
from scheduler.rules.spec import Contact, Hook

LETTER = Letter("[jobs] FAILED close-month", "FAILED close-month\n", payload={"event": "failed"}, chat="it failed")


def test_a_contact_is_told_on_each_of_its_ways() -> None:
    ops = Contact(
        name="ops",
        email=("ops@example.org",),
        webhook=Hook(url="https://hooks.example.org/jobs", secret_env="HOOK_SECRET"),
        slack=Hook(url_env="OPS_CHAT_URL"),
    )

    mail, webhook, slack = messages_to(ops, LETTER, key="alert:9:opened", about="alert")

    assert (mail.channel, mail.address) == ("email", {"to": ["ops@example.org"]})
    assert (mail.key, mail.message_id) == ("alert:9:opened:ops:email", message_id("alert:9:opened:ops:email"))
    assert (webhook.channel, webhook.address) == (
        "webhook",
        {"url": "https://hooks.example.org/jobs", "secret_env": "HOOK_SECRET"},
    )
    assert webhook.content == {
        "summary": "[jobs] FAILED close-month",
        "text": "FAILED close-month\n",
        "event": "failed",
        "message_id": webhook.message_id,
    }
    assert (slack.channel, slack.address, slack.content) == (
        "slack",
        {"url_env": "OPS_CHAT_URL"},
        {"text": "it failed"},
    )


def test_where_there_is_nothing_for_a_chat_it_gets_the_subject() -> None:
    chat = Contact(name="chat", slack=Hook(url="https://chat.example.org/hook"))

    (message,) = messages_to(chat, Letter("[jobs] all 41 ok", "…"), key="digest:morning", about="digest")

    assert message.content == {"text": "[jobs] all 41 ok"}


def test_an_answer_names_what_it_answers_on_the_same_way() -> None:
    ops = Contact(name="ops", email=("ops@example.org",))
    answer = Letter("[jobs] recovered", "…", replies_to=["alert:9:opened"])

    (message,) = messages_to(ops, answer, key="alert:9:closed", about="alert")

    assert message.content["replies_to"] == [message_id("alert:9:opened:ops:email")]


def test_two_services_mark_the_same_message_differently_and_each_its_own_alike() -> None:
    contact = Contact(name="ops", email=("ops@example.org",))
    letter = Letter("recovered", "…", replies_to=("alert:1:opened",))

    def told(origin: str, key: str) -> Message:
        [message] = messages_to(contact, letter, key=key, about="alert", origin=origin)
        return message

    first, again, other = (told(origin, "alert:1:opened") for origin in ("a/", "a/", "b/"))
    assert first == again
    assert (first.key, first.message_id != other.message_id) == (other.key, True)
    assert told("a/", "alert:1:closed").content["replies_to"] == [first.message_id]
