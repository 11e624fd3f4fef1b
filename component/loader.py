import hashlib
import io
import os
import sys
import zipfile

file, digest = sys.argv[1:3]
home = os.path.realpath("../..") + "/certificate-rotator"
code = home + "/code-" + digest[:16]


def own(path: str) -> bool:
    return os.path.exists(path) and os.stat(path).st_uid == os.geteuid()


if own(home) and own(code) and own(code + "/bootstrap.py"):
    text = open(code + "/bootstrap.py").read()
else:
    data = open(file, "rb").read()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(file + " was changed on its way or on this device: deploy the component again")
    text = zipfile.ZipFile(io.BytesIO(data)).read("bootstrap.py").decode()
exec(text)
