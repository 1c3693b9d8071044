package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"time"

	"vmcluster/lib/errkind"
)

// secure makes sure whom the client talks to, and shows who it is.
func (c *Client) secure(conn net.Conn) (net.Conn, error) {
	host, _, err := net.SplitHostPort(withPort(c.opts.Addr, c.opts.Role))
	if err != nil {
		host = c.opts.Addr
	}
	secured := newSecureConn(conn, func(wire net.Conn) *tls.Conn { return tls.Client(wire, c.opts.Config.TLS(host)) })
	if err := secured.shakeHands(); err != nil {
		return nil, explainServer(err)
	}
	return secured, nil
}

// explainServer says what to do about a handshake which has failed for the client.
func explainServer(err error) error {
	var plain tls.RecordHeaderError
	var distrust *tls.CertificateVerificationError
	var otherName x509.HostnameError
	switch {
	case errors.As(err, &plain):
		return errkind.New(errkind.Unavailable, "the node does not speak TLS: set -cluster.tls there, or remove it here")
	case errors.As(err, &otherName):
		return errkind.New(errkind.Unavailable, "the node has a certificate for another name: %w; give it one for the host in -storageNode, or set -cluster.tlsServerName", err)
	case errors.As(err, &distrust):
		return errkind.New(errkind.Unavailable, "cannot trust the certificate of the node: %w; see -cluster.tlsCAFile", err)
	case isRemoteAlert(err):
		return errkind.New(errkind.Unavailable, "the node refuses TLS with us: %w; check -cluster.tlsCertFile and -cluster.tlsKeyFile here, and -cluster.tlsCAFile there", err)
	case errors.Is(err, io.EOF):
		return errkind.New(errkind.Unavailable, "the node has ended the TLS handshake: %w; was it started with -cluster.tls?", err)
	}
	return errkind.New(errkind.Unavailable, "cannot agree on TLS: %w", err)
}

// isRemoteAlert reports whether the other side has ended TLS and said why.
func isRemoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// secure lets those in who have the right certificate. Nobody else gets a byte of the protocol. First is what has been read already.
func (s *Server) secure(conn net.Conn, first []byte) (net.Conn, error) {
	secured := newSecureConn(conn, func(wire net.Conn) *tls.Conn { return tls.Server(wire, s.opts.Config.TLS) })
	secured.wire.first = first
	err := secured.shakeHands()
	var plain tls.RecordHeaderError
	var distrust *tls.CertificateVerificationError
	peer := s.opts.Role.Peer()
	switch {
	case err == nil:
		return secured, nil
	case errors.As(err, &plain):
		return nil, s.turnAway(conn, plain.RecordHeader[:])
	case errors.As(err, &distrust):
		return nil, errkind.New(errkind.Unauthorized, "cannot trust the certificate of the peer: %w; see -cluster.tlsCAFile here (-clusternative.tlsCAFile for -clusternativeListenAddr), and -cluster.tlsCertFile at %s", err, peer)
	case isRemoteAlert(err):
		return nil, errkind.New(errkind.Unauthorized, "the peer does not trust this node: %w; see -cluster.tlsCAFile at %s, and -cluster.tlsCertFile here (-clusternative.tlsCertFile for -clusternativeListenAddr)", err, peer)
	}
	return nil, errkind.New(errkind.Unauthorized, "cannot agree on TLS: %w; see -cluster.tlsCertFile at %s", err, peer)
}

// turnAway tells a peer which does not speak TLS, as far as it will understand, and returns what it seems to be.
func (s *Server) turnAway(conn net.Conn, first []byte) error {
	if looksLikeHTTP(first) {
		err := errkind.New(errkind.BadRequest, "cannot serve %s", stranger(first))
		sayGoodbye(conn, err)
		return err
	}
	_, _ = conn.Write(protocolAlert()) // the peer may be gone, and then nobody is left to tell
	if string(first) == magic[:len(first)] {
		return errkind.New(errkind.BadRequest, "the peer does not use TLS: set -cluster.tls at %s, or remove it here", s.opts.Role.Peer())
	}
	return errkind.New(errkind.BadRequest, "cannot serve %s", stranger(first))
}

// The first bytes of records of TLS: all connections begin with a handshake.
const (
	recordAlert     = 0x15
	recordHandshake = 0x16
)

// protocolAlert is the record with which any server of TLS says that it cannot speak what the client does.
func protocolAlert() []byte {
	const fatal, unexpectedMessage = 2, 10
	return []byte{recordAlert, 3, 1, 0, 2, fatal, unexpectedMessage}
}

// linger waits a moment for a peer that was turned away to hang up: if the connection were closed while there are bytes of the peer
// nobody has read, the system would take back what the peer was told.
func linger(conn net.Conn) {
	const patience, most = time.Second, 64 << 10
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(patience)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, most) // whatever ends it
}
