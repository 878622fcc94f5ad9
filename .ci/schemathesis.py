"""How schemathesis fills in what a schema cannot say, and what it is not to try."""

import base64
import os
import string
from urllib.parse import unquote

import schemathesis
from hypothesis import strategies as st
from hypothesis.internal.conjecture.optimiser import Optimiser

climb = Optimiser.hill_climb


def climb_as_far_as_it_goes(self):
    # Where a step has fewer parts than what it began with, it looks for one past their end, and would end all that is
    # tried of an operation by that.
    try:
        climb(self)
    except IndexError:
        pass


Optimiser.hill_climb = climb_as_far_as_it_goes


def words(alphabet, most):
    return st.text(alphabet=alphabet, min_size=1, max_size=most)


FIELD = st.sampled_from(["*", "0", "5", "1-5", "1,5", "*/2"])
NAME = words(string.ascii_letters + string.digits + "_-", 20)

# By the formats of the document. Most texts that fit a pattern mean nothing, such as the name of a skill
# that is not there, and lead no further than to a refusal.
FORMATS = {
    "skill": st.sampled_from(["text-stats", "text-stats", "text-stats@0.1.0", "notes", "nobody", "sha256:" + "0" * 64]),
    "queue-name": NAME | st.just("default"),
    "schedule-name": NAME | st.builds("{}.{}".format, NAME, NAME),
    "tag": words(st.characters(min_codepoint=0x20, max_codepoint=0x7E), 20),
    "cron": st.lists(FIELD, min_size=5, max_size=6).map(" ".join) | st.sampled_from(["@daily", "0 9 * JAN MON-FRI"]),
    "callback-url": st.builds("https://{}.example.com/{}".format, words(string.ascii_lowercase, 20), NAME),
    "time-zone": st.sampled_from(["UTC", "Europe/Zurich", "Asia/Tokyo", "America/New_York"]),
    "skillhost-time": st.sampled_from(["500ms", "2s", "1m 30s"]),
    "skillhost-size": st.sampled_from(["17", "512 KiB", "64MiB", "1.5 GB"]),
    "idempotency-key": NAME | st.builds('"{}"'.format, NAME),
}
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)


# What is uploaded is a skill, or begins like one.
with open(os.environ["SCHEMATHESIS_COMPONENT"], "rb") as file:
    COMPONENT = file.read()
schemathesis.openapi.media_type("application/wasm", st.sampled_from([COMPONENT, COMPONENT[:1000]]))


@schemathesis.hook
def map_body(context, body):
    # No text that is made up is a component.
    if isinstance(body, dict) and isinstance(body.get("component"), str):
        return {**body, "component": base64.b64encode(COMPONENT).decode()}
    return body


def is_spare(skill):
    return not str(skill).startswith(("text-stats", "sha256:")) or str(skill).endswith("0" * 64)


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    # What all else is tried with is not removed.
    if context.operation.method.upper() == "DELETE" and not is_spare((path_parameters or {}).get("skill")):
        return {**path_parameters, "skill": "notes"}
    return path_parameters


@schemathesis.hook
def filter_case(context, case):
    # Nor where its name comes from elsewhere, such as an earlier answer.
    if case.method.upper() == "DELETE" and not is_spare((case.path_parameters or {}).get("skill")):
        return False
    # A skill goes by its name and by its name with its version, which are two things to schemathesis: what is
    # removed under the one is missed under the other. tests/serve/process.rs removes one under the second.
    if case.method.upper() == "DELETE" and "@" in unquote(str((case.path_parameters or {}).get("skill"))):
        return False
    # To break a header's type it sends `null`, which as a header is a text like any other.
    return all(value != "null" for value in (case.headers or {}).values())
