"""Logging in with mysql.connector, whose socket then carries rows in the binary protocol.

The connector knows TLS and every way to authenticate. This is the only module that uses its private names.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.network import MySQLSocket, NetworkBrokerPlain

from mlops_plugin.databases.drivers.mysql_protocol.packets import HEADER, Packets
from mlops_plugin.databases.drivers.mysql_protocol.statements import Statements
from mlops_plugin.keepalive import keep_alive

_BULK = 4  # of MariaDB's capabilities: a statement can be executed for many rows of parameters
# A client's first packets are: four bytes of flags, five of others, 23 that are reserved, more.
_RESERVED = slice(9, 32)
_EXTENSIONS = slice(28, 32)  # of which MariaDB reads its own capabilities
# A server's first packet, behind its header, a byte and the version's text up to a zero:
_SERVERS_FLAGS, _SERVERS_EXTENSIONS = 13, 27


class Session(MySQLConnection):
    """A connection of mysql.connector that asks MariaDB for its bulk command."""

    @property
    def can_bulk(self) -> bool:
        """Whether the server executes a statement for many rows of parameters."""
        return self._broker.can_bulk

    def statements(self) -> Statements:
        """Prepared statements on this socket; read their rows before the connector's next command."""
        connected: Any = self._socket and self._socket.sock
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connected)
        return Statements(Packets(connected))

    def _get_connection(self) -> MySQLSocket:
        connection = super()._get_connection()
        self._broker = connection._netbroker = _Broker()
        return connection

    def _do_auth(self, *arguments: Any, **named: Any) -> bool:
        is_done = super()._do_auth(*arguments, **named)
        self._broker.is_logged_in = True
        return is_done

    def _do_handshake(self) -> None:
        super()._do_handshake()
        # With it, each parameter would need a name.
        self._client_flags &= ~ClientFlag.CLIENT_QUERY_ATTRIBUTES
        self._query_attrs_supported = False


class _Broker(NetworkBrokerPlain):
    """Sees the server's first packet, and adds to the client's that it knows the bulk command."""

    def __init__(self) -> None:
        super().__init__()
        self.can_bulk = False
        self.is_logged_in = False
        self._is_greeted = False

    def recv(self, sock: socket.socket, address: str) -> bytearray:
        packet = super().recv(sock, address)
        if not self._is_greeted:
            self._is_greeted, self.can_bulk = True, _has_bulk(bytes(packet[HEADER:]))
        return packet

    def send(
        self,
        sock: socket.socket,
        address: str,
        payload: bytes,
        packet_number: int | None = None,
        compressed_packet_number: int | None = None,
    ) -> None:
        is_head = payload[_RESERVED] == bytes(_RESERVED.stop - _RESERVED.start)
        if self.can_bulk and not self.is_logged_in and is_head:
            (flags,) = struct.unpack_from("<I", payload)
            # Of a client that says it is MySQL's own, MariaDB does not read them.
            flags &= ~ClientFlag.LONG_PASSWD
            rest = payload[4 : _EXTENSIONS.start] + struct.pack("<I", _BULK) + payload[_EXTENSIONS.stop :]
            payload = struct.pack("<I", flags) + rest
        super().send(sock, address, payload, packet_number, compressed_packet_number)


def _has_bulk(greeting: bytes) -> bool:
    behind = greeting.find(b"\0") + 1
    if not behind or len(greeting) < behind + _SERVERS_EXTENSIONS + 4:
        return False  # an error, or a server of long ago
    (flags,) = struct.unpack_from("<H", greeting, behind + _SERVERS_FLAGS)
    (extensions,) = struct.unpack_from("<I", greeting, behind + _SERVERS_EXTENSIONS)
    return not flags & ClientFlag.LONG_PASSWD and bool(extensions & _BULK)
