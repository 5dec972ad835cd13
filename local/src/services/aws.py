"""SQS, SNS, SES, SSM and S3 of this machine: moto, in one process.

What it does beyond `moto_server`: it takes a free port and says which (`ready <port>`), and it ends when its standard
input does (so it cannot outlive `local`, however that one ended). And S3 holds uploads by a form to the form's policy,
and tells of an object only when it is whole, which takes moto a moment longer.
"""

import base64
import json
import os
import sys
import threading
from datetime import datetime, timezone

from moto.s3 import notifications
from moto.s3.responses import S3Response
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


def hold_uploads_to_their_policy() -> None:
    post = S3Response._bucket_response_post

    def checked(self: S3Response, request: object, bucket_name: str) -> object:
        fields = {name.lower(): value for name, value in self.form_data.items()}
        # A bucket's POST can also be the deletion of several objects, which has no form.
        if "key" in fields:
            refusal = refused(fields, bucket_name, len(self.body))
            if refusal:
                status, code = refusal
                return status, {"content-type": "application/xml"}, f"<Error><Code>{code}</Code></Error>"
        return post(self, request, bucket_name)

    S3Response._bucket_response_post = checked


def refused(fields: dict, bucket_name: str, size: int) -> "tuple | None":
    """What S3 says of a form that its policy does not allow (its API reference, "POST Policy")."""
    try:
        policy = json.loads(base64.b64decode(fields["policy"]))
        expiration = datetime.fromisoformat(policy["expiration"].replace("Z", "+00:00"))
        conditions = policy["conditions"]
    except (KeyError, ValueError):
        return 403, "AccessDenied"
    given = {**fields, "bucket": bucket_name}
    checked = {"bucket", "policy", "x-amz-signature", "file"}
    for condition in conditions:
        if isinstance(condition, dict):
            condition = next(["eq", "$" + name, value] for name, value in condition.items())
        kind, first, second = condition
        if kind == "content-length-range":
            if size < first:
                return 400, "EntityTooSmall"
            if size > second:
                return 400, "EntityTooLarge"
            continue
        name = first[1:].lower()
        checked.add(name)
        value = given.get(name, "")
        if not (value == second if kind == "eq" else value.startswith(second)):
            return 403, "AccessDenied"
    if datetime.now(timezone.utc) > expiration or set(fields) - checked:
        return 403, "AccessDenied"
    return None


def tell_of_whole_objects() -> None:
    send = notifications.send_event
    notifications.send_event = lambda *event: threading.Timer(0.05, send, event).start()


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    hold_uploads_to_their_policy()
    tell_of_whole_objects()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)
    # moto makes URLs of itself from this.
    os.environ["MOTO_PORT"] = str(server.port)
    threading.Thread(target=end_with_input, daemon=True).start()
    print(f"ready {server.port}", flush=True)
    server.serve_forever()


main()
