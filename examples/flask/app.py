"""A small app with state in two places: a counter in memory and a file on disk.

Each microVM launched from the image of this app has a state of its own, and keeps it
while it is suspended.
"""
import os
import threading

from flask import Flask, Response, jsonify, request

FILE = os.environ.get("DATA_FILE", "/var/tmp/data")

app = Flask(__name__)
lock = threading.Lock()
counter = 0


def count() -> int:
    global counter
    with lock:
        counter += 1
        return counter


@app.get("/")
def hello():
    return Response(f"Hello from Flask. You are visitor {count()}.\n", content_type="text/plain")


@app.get("/counter")
def read_counter():
    return jsonify(counter=counter)


@app.post("/counter")
def increment_counter():
    return jsonify(counter=count())


@app.put("/file")
def write_file():
    with open(FILE, "wb") as file:
        file.write(request.get_data())
        file.flush()
        os.fsync(file.fileno())
    return "", 204


@app.get("/file")
def read_file():
    try:
        with open(FILE, "rb") as file:
            return Response(file.read(), content_type="application/octet-stream")
    except FileNotFoundError:
        return Response("no file has been written\n", status=404, content_type="text/plain")


# The first request of a Python program is slow: it imports, compiles and fills caches. Made here,
# before gunicorn listens, its effects are part of the snapshot, and no microVM that is launched
# from it pays for them again.
app.test_client().get("/counter")
