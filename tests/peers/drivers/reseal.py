"""Seals a `requestState` anew with another end, by the key of the gateway that made it: no test can wait for that end.

    reseal.py SECRET TOKEN SECONDS

SECONDS from now the printed token ends. The format is that of `src/mcp/sealed.rs` and `sealed/state.rs`: version, key id,
nonce, and JSON sealed with AES-256-GCM-SIV, whose `x` is the end in Unix time.

Not here: what a gateway must say to it.
"""

import base64
import hashlib
import json
import os
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

KIND = b"state 1"
PREFIX, NONCE = 2, 12


def main():
    secret, token, seconds = sys.argv[1:]
    sealer = AESGCMSIV(hashlib.sha256(b"ringgate sealed tokens 1\0" + secret.encode()).digest())
    sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    head, nonce, cipher = sealed[:PREFIX], sealed[PREFIX : PREFIX + NONCE], sealed[PREFIX + NONCE :]
    state = json.loads(sealer.decrypt(nonce, cipher, KIND))
    ends = state["x"] - time.time()
    if not 0 < ends < 24 * 3600:
        sys.exit(f"the token ends in {ends:.0f} s: that is no end")
    state["x"] = int(time.time()) + int(seconds)
    plain = json.dumps(state, separators=(",", ":"), ensure_ascii=False).encode()
    nonce = os.urandom(NONCE)
    made = head + nonce + sealer.encrypt(nonce, plain, KIND)
    print(base64.urlsafe_b64encode(made).rstrip(b"=").decode())


if __name__ == "__main__":
    main()
