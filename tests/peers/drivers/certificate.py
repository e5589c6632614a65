"""Makes a certificate authority, a server certificate of it for this machine's loopback names, and two of clients.

    py/bin/python drivers/certificate.py DIRECTORY

Writes ca.pem, server.pem, client.pem, revoked.pem, the keys beside them (server.key …) and crl.pem, which lists
revoked.pem, into DIRECTORY. All are valid for a day.

Not here: anything that listens.
"""

import datetime
import ipaddress
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM
NOW = datetime.datetime.now(datetime.timezone.utc)
BEGIN, END = NOW - datetime.timedelta(minutes=5), NOW + datetime.timedelta(days=1)
AUTHORITY = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Peers' CA")])
SERVER = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
FOR_SERVERS, FOR_CLIENTS = x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH


def signs_certificates():
    others = ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    others += ["encipher_only", "decipher_only"]
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **dict.fromkeys(others, False))


class Authority:
    def __init__(self, directory):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        extensions = [(x509.BasicConstraints(True, 0), True), (signs_certificates(), True), (self.id, False)]
        self.write("ca.pem", self.sign(AUTHORITY, self.key, extensions))

    def write(self, name, what):
        (self.directory / name).write_bytes(what.public_bytes(PEM))

    def sign(self, subject, key, extensions):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(AUTHORITY).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(BEGIN).not_valid_after(END)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, alternatives, usage):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        parent = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self.id)
        extensions = [
            (x509.BasicConstraints(False, None), True),
            (x509.SubjectAlternativeName(alternatives), False),
            (x509.ExtendedKeyUsage([usage]), False),
            (parent, False),
        ]
        issued = self.sign(subject, key, extensions)
        self.write(f"{name}.pem", issued)
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.directory / f"{name}.key").write_bytes(plain)
        return issued

    def revoke(self, certificate):
        revoked = (
            x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(BEGIN).build()
        )
        crl = x509.CertificateRevocationListBuilder().issuer_name(AUTHORITY).last_update(BEGIN).next_update(END)
        crl = crl.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self.id), False)
        crl = crl.add_extension(x509.CRLNumber(1), False)
        self.write("crl.pem", crl.add_revoked_certificate(revoked).sign(self.key, hashes.SHA256()))


def main():
    authority = Authority(pathlib.Path(sys.argv[1]))
    authority.issue("server", SERVER, FOR_SERVERS)
    authority.issue("client", [x509.UniformResourceIdentifier("spiffe://corp/agent/7")], FOR_CLIENTS)
    authority.revoke(authority.issue("revoked", [x509.UniformResourceIdentifier("spiffe://corp/agent/8")], FOR_CLIENTS))


if __name__ == "__main__":
    main()
