#!/usr/bin/env python3
"""A small Linux on a disk, with two harts and a network card: disk.py --emulator FILE CASE (or --list).

What counts is what is left on the disk, and that is judged from outside: by e2fsck and debugfs here.
"""

import hashlib
import http.server
import os
import random
import socket
import sys
import tempfile
import threading

from cases import case, check, main
from console import PROMPT
from diskguest import Guest, SmallDisk, fsck, read_file, sha256


class Server:
    """A web server on the loopback interface that gives one thing, whatever it is asked for."""

    def __init__(self, data):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def exchange(port, data):
    """Sends `data` to a TCP port here and gives what comes back until the other side closes."""
    back = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        def send():
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        while piece := connection.recv(65536):
            back += piece
        sender.join()
    return bytes(back)


def off(console):
    console.send("poweroff\n")
    check(console.wait() == 0, console, "poweroff should end it with status 0")


@case
def disk_session(emulator):
    """Log in, get an address, talk over TCP both ways, write, restart, shut down, and look at the disk from here.
    Then once more with -snapshot, which leaves the image alone."""
    noise = random.Random(4)
    down = noise.randbytes(4 << 20)
    digest = hashlib.sha256(down).hexdigest()
    up = noise.randbytes(1 << 20)
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        SmallDisk(disk, {"/data/from-host": down})
        with Server(down) as server, Guest(emulator, disk, smp=2, forward={"echo": 7000}) as console:
            console.login(prompt=PROMPT)
            check(console.run("nproc").strip() == "2", console, "there should be two harts")
            check(digest in console.run("sha256sum /data/from-host"), console, "the disk is read wrong")

            console.run("ifconfig eth0 up; udhcpc -i eth0 -n -q")
            check("10.0.2.15" in console.run("ifconfig eth0"), console, "DHCP should give 10.0.2.15")
            console.run(f"wget -q -O /data/fetched http://10.0.2.2:{server.port}/ && echo fetch\"\"ed")
            check("fetched\n" in console.text(), console, "the guest should reach a server of the host")
            check(digest in console.run("sha256sum /data/fetched"), console, "what came by TCP is wrong")
            console.run("(nc -l -p 7000 -e cat; echo over >/tmp/over) & "
                        "until grep -q :1B58 /proc/net/tcp*; do sleep 1; done")
            check(exchange(console.ports["echo"], up) == up, console, "hostfwd: the guest should send it all back")
            console.run("while [ ! -e /tmp/over ]; do sleep 1; done")

            # Both harts write at once; the list of hashes is what the host compares later.
            console.run("mkdir /data/many; for n in 0 1; do (i=0; while [ $i -lt 200 ]; do "
                        "echo $n $i $i $i >/data/many/$n-$i; i=$((i+1)); done) & done; wait")
            console.run("dd if=/data/fetched of=/data/odd bs=1000 skip=7 count=3001 conv=fsync 2>/dev/null; "
                        "rm /data/from-host; sync; echo kept >/data/kept; sync")
            console.send("reboot\n")
            console.login(prompt=PROMPT)
            check("kept" in console.run("cat /data/kept"), console, "what was written should be there after reboot")
            console.run("seq 1 20000 >/data/numbers")
            off(console)
        fsck(disk)
        numbers = "".join(f"{n}\n" for n in range(1, 20001)).encode()
        for name, data in (("fetched", down), ("odd", down[7000:7000 + 3001000]), ("kept", b"kept\n"),
                           ("numbers", numbers), ("many/1-199", b"1 199 199 199\n"), ("many/0-0", b"0 0 0 0\n")):
            assert read_file(disk, f"/data/{name}") == data, f"/data/{name} is not on the disk as it was written"

        before = sha256(disk)
        with Guest(emulator, disk, network=False, options=["-snapshot"]) as console:
            console.login(prompt=PROMPT)
            check("kept" in console.run("cat /data/kept"), console, "what was written should be there")
            console.run("rm -r /data/many; cp /data/fetched /data/again; sync; echo 3 >/proc/sys/vm/drop_caches")
            check(digest in console.run("sha256sum /data/again"), console, "the overlay should keep what is written")
            off(console)
        assert sha256(disk) == before, "-snapshot should leave the image alone"


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0]))
