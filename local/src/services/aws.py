"""SQS, SNS, SES, SSM and S3 of this machine: moto, in one process.

What it does beyond `moto_server`: it takes a free port and says which (`ready <port>`), it ends when its standard
input does (so it cannot outlive `local`, however that one ended), and it notes when each push was published, since moto
keeps them by endpoint and `/_local/outbox` shows the newest last.
"""

import os
import sys
import threading
import time

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sns.models import PlatformEndpoint
from werkzeug.serving import make_server


def note_times() -> None:
    publish = PlatformEndpoint.publish

    def noting(self: PlatformEndpoint, message: str) -> str:
        message_id = publish(self, message)
        self.__dict__.setdefault("published_at", {})[message_id] = time.time()
        return message_id

    PlatformEndpoint.publish = noting


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    note_times()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)
    # moto makes URLs of itself from this.
    os.environ["MOTO_PORT"] = str(server.port)
    threading.Thread(target=end_with_input, daemon=True).start()
    print(f"ready {server.port}", flush=True)
    server.serve_forever()


main()
