"""Asks over one HTTP/2 connection, several requests at once, with nothing but `h2` and a TLS socket.

    py/bin/python drivers/http2.py PORT CA PATH REQUESTS

REQUESTS is a JSON array of [headers, body]; a body of null makes a GET. Prints a JSON object: the protocol that TLS
agreed on, the settings of the server, and for each request its status, headers and body.

Not here: what is right; tls.py compares.
"""

import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events


def connect(port, ca):
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


def send(connection, port, path, headers, body):
    stream = connection.get_next_available_stream_id()
    method = "GET" if body is None else "POST"
    pseudo = [(":method", method), (":scheme", "https"), (":authority", f"localhost:{port}"), (":path", path)]
    connection.send_headers(stream, pseudo + list(headers.items()), end_stream=body is None)
    if body is not None:
        connection.send_data(stream, body.encode(), end_stream=True)
    return stream


def handle(connection, event, answers):
    if isinstance(event, h2.events.ResponseReceived):
        answers[event.stream_id]["headers"] = {name.decode(): value.decode() for name, value in event.headers}
    elif isinstance(event, h2.events.DataReceived):
        answers[event.stream_id]["body"] += event.data.decode()
        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, h2.events.StreamEnded):
        answers[event.stream_id]["ended"] = True
    elif isinstance(event, h2.events.StreamReset):
        answers[event.stream_id] |= {"ended": True, "reset": int(event.error_code)}
    elif isinstance(event, h2.events.ConnectionTerminated):
        raise RuntimeError(f"GOAWAY {event.error_code}")


def main():
    port, ca, path, requests = sys.argv[1:]
    tls = connect(int(port), ca)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    connection.initiate_connection()
    answers = {}
    for headers, body in json.loads(requests):
        answers[send(connection, port, path, headers, body)] = {"body": "", "headers": {}}
    tls.sendall(connection.data_to_send())
    while not all(answer.get("ended") for answer in answers.values()):
        data = tls.recv(65536)
        if not data:
            raise RuntimeError("the connection ended before the answers")
        for event in connection.receive_data(data):
            handle(connection, event, answers)
        tls.sendall(connection.data_to_send())
    settings = {str(int(code)): value for code, value in connection.remote_settings.items()}
    found = {"protocol": tls.selected_alpn_protocol(), "tls": tls.version(), "settings": settings}
    connection.close_connection()
    tls.sendall(connection.data_to_send())
    json.dump(found | {"answers": [answers[stream] for stream in sorted(answers)]}, sys.stdout)


if __name__ == "__main__":
    main()
