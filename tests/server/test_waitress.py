"""waitress has the undocumented names that server/ relies on."""

from typing import Any

import pytest
from waitress import channel, parser, server, task, wasyncore

NAMES = {
    channel.HTTPChannel: ["_flush_some", "handle_close", "received", "service", "writable"],
    parser.HTTPRequestParser: ["parse_header", "received"],
    server.TcpWSGIServer: ["accept", "add_task", "handle_accept", "maintenance", "pull_trigger"],
    task.ThreadedTaskDispatcher: ["add_task", "set_thread_count", "shutdown"],
    task.WSGITask: ["build_response_header", "execute", "get_environment", "write"],
    wasyncore: ["dispatcher", "file_dispatcher", "loop"],
}


@pytest.mark.parametrize(("owner", "names"), NAMES.items(), ids=lambda each: str(each))
def test_waitress_has_the_undocumented_names_that_the_server_uses(
    owner: object, names: list[str]
) -> None:
    assert [name for name in names if not hasattr(owner, name)] == []


def test_the_objects_of_waitress_have_the_undocumented_attributes_that_the_server_uses() -> None:
    listening: Any = server.create_server(lambda *_: [], listen="127.0.0.1:0")
    connection: Any = channel.HTTPChannel(listening, listening.socket.dup(), ("", 0), listening.adj)
    request: Any = parser.HTTPRequestParser(listening.adj)
    try:
        for owner, names in {
            listening: ["_map", "accepting", "active_channels", "adj", "trigger"],
            listening.trigger: ["close", "trigger"],
            connection: [
                *["addr", "last_activity", "request", "requests", "server", "total_outbufs_len"],
                *["will_close", "adj"],
            ],
            request: [
                *["completed", "error", "expect_continue", "header_plus", "headers", "version"],
                "headers_finished",
            ],
        }.items():
            assert [name for name in names if not hasattr(owner, name)] == []
    finally:
        connection.close()
        listening.close()
        listening.trigger.close()
        listening.task_dispatcher.shutdown()
