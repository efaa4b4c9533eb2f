"""Reads a stream over TLS as Python does, with http.client and with requests: tls_client.py URL CA

Prints how many bytes each got; reads the bytes of a third reply up to the end that TLS tells.
"""

import http.client
import socket
import ssl
import sys
from urllib.parse import urlsplit

import requests

url, ca = sys.argv[1:]
parts = urlsplit(url)
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=context)
connection.request("GET", parts.path)
first = connection.getresponse().read()
second = requests.get(url, verify=ca).content
assert first == second

# An end that TLS does not tell is an error here.
raw = socket.create_connection((parts.hostname, parts.port))
tls = context.wrap_socket(raw, server_hostname=parts.hostname, suppress_ragged_eofs=False)
tls.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
whole = b""
while data := tls.recv(65536):
    whole += data
assert whole.endswith(b"\r\n0\r\n\r\n")
print(len(first), len(second))
