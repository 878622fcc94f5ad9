"""The official client against `skillhost mcp`, one scenario at a time.

    client.py SCENARIO PROGRAM HOME

Ends with code 0 where everything was as expected. Each scenario is an `async def` below; what it needs
to be installed, the test that starts it has installed.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.extension import advertise
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter

PROGRAM, HOME = sys.argv[2], sys.argv[3]
ANY = TypeAdapter(dict)
MODES = ("legacy", "auto")


def server(*args):
    return StdioServerParameters(command=PROGRAM, args=["mcp", "--home", HOME, *args])


def skillhost(*args):
    subprocess.run([PROGRAM, *args, "--home", HOME, "-q"], check=True)


def replace(folder):
    """Installs a skill in the place of itself, with another manifest, and so another digest."""
    with tempfile.TemporaryDirectory() as place:
        changed = os.path.join(place, os.path.basename(folder))
        shutil.copytree(folder, changed, symlinks=True)
        with open(os.path.join(changed, "skill.toml"), "a") as manifest:
            manifest.write("# Another line.\n")
        skillhost("install", "--replace", changed)


def text(result):
    return "\n".join(block.text for block in result.content if block.type == "text")


def meta(result):
    return result.model_dump(by_alias=True).get("_meta") or {}


async def raw(client, method, params):
    """A request that this version of the client has no function for."""
    request = types.Request[dict[str, Any], str](method=method, params=params)
    return await client.session.send_request(request, ANY)


async def every_tool(client):
    tools, cursor = {}, None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            assert tool.name not in tools
            tools[tool.name] = tool
        cursor = page.next_cursor
        if cursor is None:
            return tools


async def calling():
    for mode in MODES:
        async with Client(server(), mode=mode) as client:
            assert client.server_info.name == "skillhost"
            tools = await every_tool(client)
            echo = tools["behaviours__echo"]
            assert echo.description == "Does this: echo."
            assert echo.input_schema["type"] == "object"
            assert echo.annotations.read_only_hint and not echo.annotations.destructive_hint
            assert tools["behaviours__answer"].annotations.destructive_hint
            assert tools["behaviours__answer"].output_schema == {"type": "object"}
            assert "read_output" in tools

            answer = await client.call_tool("behaviours__echo", {"a": [1, "ä"]})
            assert not answer.is_error
            assert answer.structured_content == {"a": [1, "ä"]}
            assert json.loads(text(answer)) == {"a": [1, "ä"]}
            usage = meta(answer)["skillhost/usage"]
            assert usage["fuel"] > 0, usage

            answer = await client.call_tool("behaviours__answer", {"json": '{"b": 2}'})
            assert answer.structured_content == {"b": 2}

            # What is no object: revisions that know only objects get it as text alone.
            answer = await client.call_tool("behaviours__answer_large", {"bytes": 10})
            assert not answer.is_error
            # The library repeats it for those, as JSON.
            assert answer.content[-1].text == "x" * 8, answer
            assert answer.structured_content == (None if mode == "legacy" else "x" * 8), answer


async def failing():
    for mode in MODES:
        async with Client(server(), mode=mode) as client:
            answer = await client.call_tool("behaviours__sleep", {"ms": "long"})
            assert answer.is_error
            assert meta(answer)["skillhost/failure"]["kind"] == "invalid_input"
            assert "`/ms` in the input" in text(answer), text(answer)

            answer = await client.call_tool("behaviours__fail_to_retry", {"after_ms": 3000})
            assert answer.is_error and "after 3 s" in text(answer), text(answer)

            wrong = {"pointer": "/x/1", "message": "\x1b[2Jno"}
            answer = await client.call_tool("behaviours__reject_input", wrong)
            assert answer.is_error and "/x/1" in text(answer), text(answer)
            assert "\x1b" not in text(answer)

            answer = await client.call_tool("behaviours__panic", {"message": "so"})
            assert answer.is_error
            assert meta(answer)["skillhost/failure"]["kind"] == "trap"

            try:
                await client.call_tool("behaviours__ehco", {})
                raise AssertionError("there is no such tool")
            except MCPError as error:
                assert error.error.code == types.INVALID_PARAMS
                assert "behaviours__echo" in error.error.message, error.error.message

            # The session is as it was.
            assert not (await client.call_tool("behaviours__echo", {})).is_error


async def missing_grants():
    async with Client(server()) as client:
        answer = await client.call_tool("fetch-page__fetch", {"url": "https://example.com/"})
        assert answer.is_error
        said = text(answer)
        assert "Missing grant: http" in said and "policy grant" in said, said
        # There is no command line to add a flag to.
        assert "for this run" not in said and "with `--" not in said, said
        assert meta(answer)["skillhost/failure"]["denials"]


async def attachments():
    picture = base64.b64encode(b"\x89PNG not really").decode()
    for mode in MODES:
        async with Client(server(), mode=mode) as client:
            given = [
                {"name": "a.png", "mediaType": "image/png", "data": picture},
                {"name": "b.wav", "mediaType": "audio/wav", "data": picture},
                {"name": "c.txt", "mediaType": "text/plain", "data": base64.b64encode("ä".encode()).decode()},
                {"name": "d.bin", "data": base64.b64encode(b"\x00\x01").decode()},
            ]
            answer = await client.call_tool("behaviours__echo", {"x": 1, "_attachments": given})
            assert not answer.is_error, text(answer)
            assert answer.structured_content == {"x": 1}
            _, image, audio, words, blob = answer.content
            assert (image.type, image.mime_type, image.data) == ("image", "image/png", picture)
            assert (audio.type, audio.mime_type) == ("audio", "audio/wav")
            assert words.resource.text == "ä" and words.resource.mime_type == "text/plain"
            assert base64.b64decode(blob.resource.blob) == b"\x00\x01"

            for wrong in ([{"name": "a"}], [{"name": "a", "data": "?"}], "a", [{"name": "a", "uri": "skillhost://outputs/x/0"}]):
                answer = await client.call_tool("behaviours__echo", {"_attachments": wrong})
                assert answer.is_error and "_attachments" in text(answer), text(answer)


async def telling():
    heard, logged = [], []

    async def progress(done, total, message):
        heard.append((done, total, message))

    async def log(params):
        logged.append((params.level, params.data, params.logger))

    for mode in MODES:
        heard.clear()
        logged.clear()
        async with Client(server(), mode=mode, logging_callback=log, log_level="info") as client:
            if mode == "legacy":
                await client.set_logging_level("info")
            answer = await client.call_tool("behaviours__chatter", {"count": 5}, progress_callback=progress)
            assert not answer.is_error
            assert len(heard) == 5, heard
            assert [done for done, _, _ in heard] == sorted({done for done, _, _ in heard})
            assert heard[4][0] == 4 and heard[4][1] == 100 and heard[4][2] == "step", heard
            assert logged == [("info", f"record {at}", "behaviours") for at in range(5)], logged
            logged.clear()
            await client.call_tool("behaviours__log_text", {"text": "\x1b]0;x\x07\u202e"})
            assert logged and not any(c in logged[0][1] for c in "\x1b\x07\u202e"), logged


async def cancelling():
    """The guest may run for minutes, and only one call at a time is allowed: that a second one gets
    through shows that the first was stopped."""
    for mode in MODES:
        for tool in ("spin", "wait_for_ever"):
            began = []

            async def progress(*_):
                began.append(True)

            async with Client(server("--concurrency", "1"), mode=mode) as client:
                # Loaded, so that what is cancelled is the running guest.
                assert not (await client.call_tool("behaviours__echo", {})).is_error
                with anyio.move_on_after(1):
                    await client.call_tool(f"behaviours__{tool}", {})
                    raise AssertionError("it runs for minutes")
                until = time.monotonic() + 60
                while True:
                    answer = await client.call_tool("behaviours__echo", {})
                    if not answer.is_error:
                        break
                    assert "running already" in text(answer), text(answer)
                    assert time.monotonic() < until, "the guest still runs"
                    await anyio.sleep(0.05)


async def changing():
    changed = anyio.Event()

    async def hear(message):
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    async with Client(server(), mode="legacy", message_handler=hear) as client:
        assert client.server_capabilities.tools.list_changed
        before = await every_tool(client)
        assert "text-stats__count" not in before
        for change, there in (("install", True), ("remove", False)):
            skillhost(change, "text-stats" if change == "remove" else os.environ["TEXT_STATS"])
            with anyio.fail_after(60):
                await changed.wait()
            changed = anyio.Event()
            tools = await every_tool(client)
            assert ("text-stats__count" in tools) == there
            if there:
                answer = await client.call_tool("text-stats__count", {"text": "to be"})
                assert not answer.is_error, text(answer)
                before = tools["text-stats__count"].meta["skillhost/skill"]["digest"]
                # Another one of its name and version in its place.
                replace(os.environ["TEXT_STATS"])
                with anyio.fail_after(60):
                    await changed.wait()
                changed = anyio.Event()
                tools = await every_tool(client)
                assert tools["text-stats__count"].meta["skillhost/skill"]["digest"] != before
                answer = await client.call_tool("text-stats__count", {"text": "to be"})
                assert not answer.is_error, text(answer)

    async with Client(server()) as client:
        async with client.listen(tools_list_changed=True) as events:
            skillhost("install", os.environ["TEXT_STATS"])
            with anyio.fail_after(60):
                async for _ in events:
                    break
            tools = (await client.list_tools(cache_mode="bypass")).tools
            cursor = tools[-1].name
            names = set(await every_tool(client))
            assert "text-stats__count" in names, cursor


async def reading():
    for mode in MODES:
        async with Client(server("--output-tokens", "100"), mode=mode) as client:
            listed = (await client.list_resources()).resources
            uris = {resource.uri: resource for resource in listed}
            assert uris["skill://text-stats/SKILL.md"].mime_type == "text/markdown"
            assert "skill://text-stats/references/more%20about.md" in uris, list(uris)
            assert not any("secret" in uri for uri in uris)
            read = await client.read_resource("skill://text-stats/references/more%20about.md")
            assert read.contents[0].text == "more\n"
            for nowhere in (
                "skill://text-stats/../behaviours/skill.wasm",
                "skill://text-stats/references/../../skill.toml",
                "skill://text-stats/references/%2e%2e/skill.toml",
                "skill://text-stats/references/link.md",
                "skill://text-stats/skill.wasm",
                "skill://nobody/SKILL.md",
                "file:///etc/passwd",
                "skillhost://outputs/0/0",
            ):
                try:
                    await client.read_resource(nowhere)
                    raise AssertionError(nowhere)
                except MCPError:
                    pass

            skills = (await raw(client, "skills/list", {}))["skills"]
            skill = next(skill for skill in skills if skill["frontmatter"]["name"] == "text-stats")
            assert skill["uri"] == "skill://text-stats/SKILL.md"
            assert len(skill["resources"]) == 2 and all(r["digest"].startswith("sha256:") for r in skill["resources"])
            one = await raw(client, "skills/get", {"uri": skill["uri"]})
            assert one["skill"]["resources"] == skill["resources"]
            inside = await raw(client, "resources/directory/read", {"uri": "skill://text-stats"})
            assert {r["name"] for r in inside["resources"]} == {"SKILL.md", "references"}


async def large():
    whole = "x" * 4998
    for mode in MODES:
        async with Client(server("--output-tokens", "100"), mode=mode) as client:
            answer = await client.call_tool("behaviours__answer_large", {"bytes": 5000})
            assert not answer.is_error, text(answer)
            assert answer.content[0].text == "x" * 400
            assert "read_output" in answer.content[1].text
            assert answer.structured_content is None
            link = answer.content[2]
            assert link.type == "resource_link" and link.size == 4998
            got, offset = "", 0
            while offset is not None:
                piece = await client.call_tool("read_output", {"uri": link.uri, "offset": offset})
                assert not piece.is_error, text(piece)
                got += piece.structured_content["text"]
                offset = piece.structured_content["next"]
            assert got == whole
            read = await client.read_resource(link.uri)
            assert read.contents[0].text == whole
            # It can be handed to another tool, too.
            given = [{"name": "whole", "uri": link.uri}]
            answer = await client.call_tool("behaviours__echo", {"_attachments": given})
            assert answer.content[1].resource.text == whole
            answer = await client.call_tool("read_output", {"uri": "skillhost://outputs/0/0"})
            assert answer.is_error
            uri = link.uri
        async with Client(server(), mode=mode) as other:
            assert (await other.call_tool("read_output", {"uri": uri})).is_error, "another session's"


async def searching():
    for mode in MODES:
        async with Client(server("--search"), mode=mode) as client:
            tools = await every_tool(client)
            assert set(tools) == {"call_tool", "read_output", "search_tools"}
            found = await client.call_tool("search_tools", {"query": "count the words of a text"})
            best = found.structured_content["tools"][0]
            assert best["name"] == "text-stats__count", found.structured_content
            assert "text" in best["inputSchema"]["properties"]
            call = {"name": best["name"], "arguments": {"text": "to be or not to be"}}
            answer = await client.call_tool("call_tool", call)
            assert not answer.is_error and answer.structured_content["words"] == 6, text(answer)
            assert (await client.call_tool("call_tool", {"name": "nobody__x"})).is_error
            assert (await client.call_tool("call_tool", {})).is_error
            odd = await client.call_tool("search_tools", {"query": "\" OR NEAR(*) name:x"})
            assert not odd.is_error
            nothing = await client.call_tool("search_tools", {"query": "--"})
            assert nothing.structured_content["tools"] == []


async def task(client, tool, arguments):
    params = {
        "name": tool,
        "arguments": arguments,
        "_meta": {"skillhost/task": True},
    }
    made = await raw(client, "tools/call", params)
    assert made["resultType"] == "task", made
    assert made["status"] == "working"
    return made["taskId"]


async def ended(client, id):
    with anyio.fail_after(120):
        while True:
            state = await raw(client, "tasks/get", {"taskId": id})
            if state["status"] not in ("working",):
                return state
            await anyio.sleep(0.1)


def with_tasks(*args):
    return Client(server(*args), extensions=[advertise("io.modelcontextprotocol/tasks")])


async def working():
    async with with_tasks() as client:
        id = await task(client, "behaviours__echo", {"a": 1})
        state = await ended(client, id)
        assert state["status"] == "completed", state
        assert state["result"]["structuredContent"] == {"a": 1}
        failed = await ended(client, await task(client, "behaviours__reject_input", {}))
        assert failed["status"] == "completed" and failed["result"]["isError"], failed

        # One that would run for minutes is stopped.
        id = await task(client, "behaviours__spin", {})
        await raw(client, "tasks/cancel", {"taskId": id})
        state = await ended(client, id)
        assert state["status"] == "cancelled", state

        # One that is left to whoever comes next.
        left = await task(client, "behaviours__sleep", {"ms": 3000})
        for unknown in ("x", "019a1c5e-0000-7000-8000-000000000000"):
            try:
                await raw(client, "tasks/get", {"taskId": unknown})
                raise AssertionError("there is no such task")
            except MCPError as error:
                assert error.error.code == types.INVALID_PARAMS
    async with with_tasks() as client:
        state = await ended(client, left)
        assert state["status"] == "completed" and not state["result"].get("isError"), state
    # A tool that may run for long by its limits becomes a task by itself.
    async with with_tasks("--task-after", "1s") as client:
        made = await raw(client, "tools/call", {"name": "behaviours__echo", "arguments": {}})
        assert made["resultType"] == "task", made
    # A client that does not know tasks gets none.
    async with Client(server("--task-after", "1s")) as client:
        assert not (await client.call_tool("behaviours__echo", {})).is_error
    # The jobs are the skill's, so that what is bounded or paused for it holds for them.
    listed = subprocess.run(
        [PROGRAM, "jobs", "list", "--json", "--home", HOME], check=True, capture_output=True
    )
    assert {job["skill"] for job in json.loads(listed.stdout)} == {"behaviours"}


async def chosen():
    async with Client(server(os.environ["TEXT_STATS"])) as client:
        tools = await every_tool(client)
        assert set(tools) == {"text-stats__count", "read_output"}, tools
        assert tools["text-stats__count"].title == "Count words", tools
        answer = await client.call_tool("text-stats__count", {"text": "a"})
        assert not answer.is_error


async def approving():
    """PROGRAM is the address of a server whose tools all need an approval."""
    asked, action = [], "accept"

    async def ask(context, params):
        asked.append(params.message)
        return types.ElicitResult(action=action, content={} if action == "accept" else None)

    for mode in MODES:
        for action in ("accept", "decline"):
            asked.clear()
            async with Client(PROGRAM, mode=mode, elicitation_callback=ask) as client:
                answer = await client.call_tool("test_simple_text", {"why": "\x1b[2J"})
                assert len(asked) == 1, asked
                assert "`test_simple_text`" in asked[0] and "\x1b" not in asked[0], asked
                assert answer.is_error == (action == "decline"), text(answer)
                if answer.is_error:
                    assert "did not approve" in text(answer), text(answer)
        async with Client(PROGRAM, mode=mode) as client:
            answer = await client.call_tool("test_simple_text", {})
            assert answer.is_error, "nobody can be asked"
            failure = meta(answer)["skillhost/failure"]
            assert (failure["kind"], failure["reason"]) == ("rejected", "approval"), failure

    # Whoever makes up an answer has not been asked, and an answer is for one call.
    async with Client(PROGRAM, mode="2026-07-28", elicitation_callback=ask) as client:
        made_up = {"approve": types.ElicitResult(action="accept", content={})}
        first = await client.session.call_tool(
            "test_simple_text", {}, input_responses=made_up, request_state="made up", allow_input_required=True
        )
        assert isinstance(first, types.InputRequiredResult), first
        other = await client.session.call_tool(
            "test_simple_text",
            {"another": "call"},
            input_responses=made_up,
            request_state=first.request_state,
            allow_input_required=True,
        )
        assert isinstance(other, types.InputRequiredResult), other


def kept(*args):
    """What a command says of what is kept."""
    said = subprocess.run([PROGRAM, *args, "--json", "--home", HOME], check=True, capture_output=True)
    return json.loads(said.stdout)


async def ruled():
    """By the policy, `answer` needs an approval of exactly this call; the approvals are in the queue's
    database."""
    asked, action = [], "accept"

    async def ask(context, params):
        asked.append(params.message)
        if action == "error":
            return types.ErrorData(code=-32603, message="the window cannot be opened")
        return types.ElicitResult(action=action, content={} if action == "accept" else None)

    for mode in MODES:
        for action in ("accept", "decline"):
            asked.clear()
            call = {"json": json.dumps({"mode": mode, "action": action})}
            async with Client(server(), mode=mode, elicitation_callback=ask) as client:
                answer = await client.call_tool("behaviours__answer", call)
                assert len(asked) == 1 and "`answer`" in asked[0], asked
                for fact in ("Asked by: approval rule 1", "Version: 1.2.3", "Digest: sha256:", "Input: {"):
                    assert fact in asked[0], asked
                assert answer.is_error == (action == "decline"), text(answer)
                assert not (await client.call_tool("behaviours__echo", {})).is_error
        async with Client(server(), mode=mode) as client:
            answer = await client.call_tool("behaviours__answer", {"json": "{}"})
            assert answer.is_error and "skillhost approvals approve" in text(answer), text(answer)

    # Who puts a question away has not said no: it stays open, and is asked again.
    decided = len(kept("audit", "show", "--kind", "approval_decided"))
    for mode, actions in (("legacy", ("cancel", "error")), ("auto", ("cancel",))):
        for putting_away in actions:
            asked.clear()
            call = {"json": json.dumps({"mode": mode, "put away by": putting_away})}
            async with Client(server(), mode=mode, elicitation_callback=ask) as client:
                for round in (1, 2):
                    action = putting_away
                    answer = await client.call_tool("behaviours__answer", call)
                    failure = meta(answer)["skillhost/failure"]
                    assert (failure["kind"], failure["reason"]) == ("rejected", "approval"), failure
                    assert len(asked) == round, asked
                    approvals = kept("approvals", "list")
                    found = [one for one in approvals if one["id"] == failure["approval"]]
                    assert [one["status"] for one in found] == ["pending"], approvals
                    assert len(kept("audit", "show", "--kind", "approval_decided")) == decided
                action = "accept"
                assert not (await client.call_tool("behaviours__answer", call)).is_error
            decided += 1
            assert len(kept("audit", "show", "--kind", "approval_decided")) == decided

    # Over standard input and output, it is the user of the machine who calls and answers.
    for kind, who in (
        ("execution", "caller"),
        ("approval_asked", "caller"),
        ("approval_decided", "caller"),
        ("approval_decided", "by"),
    ):
        entries = [record["entry"] for record in kept("audit", "show", "--kind", kind)]
        assert entries and all(entry[who].startswith("uid ") for entry in entries), entries

    # A task waits, and goes on with the answer.
    async with with_tasks() as client:
        for accepted in (True, False):
            call = {"json": json.dumps({"accepted": accepted})}
            id = await task(client, "behaviours__answer", call)
            state = await ended(client, id)
            assert state["status"] == "input_required", state
            assert state["inputRequests"]["approve"]["method"] == "elicitation/create", state
            words = state["inputRequests"]["approve"]["params"]["message"]
            for fact in ("Asked by: approval rule 1", "Version: 1.2.3", "Digest: sha256:", "Input: {"):
                assert fact in words, words
            # Put away, it is there for whoever looks next.
            await raw(client, "tasks/update", {"taskId": id, "inputResponses": {"approve": {"action": "cancel"}}})
            assert await raw(client, "tasks/get", {"taskId": id}) == state
            answer = {"action": "accept" if accepted else "decline"}
            await raw(client, "tasks/update", {"taskId": id, "inputResponses": {"approve": answer}})
            state = await ended(client, id)
            assert state["status"] == "completed", state
            assert bool(state["result"].get("isError")) != accepted, state


async def served():
    """PROGRAM is the address of `skillhost serve`."""
    for mode in MODES:
        heard = []

        async def progress(done, total, message):
            heard.append((done, total, message))

        async with Client(PROGRAM, mode=mode) as client:
            tools = await every_tool(client)
            assert tools["behaviours__echo"].annotations.read_only_hint
            answer = await client.call_tool("behaviours__echo", {"a": 1})
            assert answer.structured_content == {"a": 1}, text(answer)
            answer = await client.call_tool("behaviours__chatter", {"count": 3}, progress_callback=progress)
            assert not answer.is_error and len(heard) == 3, heard
            with anyio.move_on_after(1):
                await client.call_tool("behaviours__spin", {})
                raise AssertionError("it runs for minutes")
            answer = await client.call_tool("behaviours__answer_large", {"bytes": 100_000})
            link = next(block for block in answer.content if block.type == "resource_link")
            read = await client.read_resource(link.uri)
            assert len(read.contents[0].text) == 99_998
            answer = await client.call_tool("behaviours__panic", {"message": "so"})
            assert answer.is_error and meta(answer)["skillhost/failure"]["kind"] == "trap"
    # Tasks over HTTP need a header that this client does not send yet; tests/serve/mcp.rs does.


async def main():
    with anyio.fail_after(300):
        await globals()[sys.argv[1]]()


anyio.run(main)
