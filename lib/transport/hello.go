package transport

import (
	"encoding/binary"
	"io"
	"net"
	"strings"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// Role is what a connection is for. The numbers are part of the protocol.
type Role uint8

// The roles.
const (
	RoleInsert Role = 1
	RoleSelect Role = 2
)

// Peer names the side that dials, as log records do.
func (r Role) Peer() string {
	switch r {
	case RoleInsert:
		return "vminsert"
	case RoleSelect:
		return "vmselect"
	}
	return "unknown peer"
}

// The versions this package speaks.
const (
	minVersion = 1
	maxVersion = 1
)

// Capabilities which are reserved; whoever implements one offers its bit.
const (
	CapabilityZstd  uint64 = 1 << 0 // payloads may be compressed
	CapabilityTrace uint64 = 1 << 4 // of role select: requests may ask for a trace
	// CapabilityResults, of role select: requests may ask for the results of several stores.
	CapabilityResults uint64 = 1 << 5
	// CapabilityLevel, of role select: the server answers out of nodes of its own, of which some may be missing.
	CapabilityLevel uint64 = 1 << 6
	// CapabilityHistograms: requests may carry native histograms, or ask for them.
	CapabilityHistograms uint64 = 1 << 7
	// CapabilityExemplars, of role insert: requests may hold exemplars.
	CapabilityExemplars uint64 = 1 << 8
	// CapabilityStarts, of role insert: requests may say when counters began.
	CapabilityStarts uint64 = 1 << 9
)

const (
	magic     = "VMCL-RPC"
	helloSize = 36
)

// hello is what the client says first.
type hello struct {
	minVersion   uint16
	maxVersion   uint16
	role         Role
	capabilities uint64
	window       uint32 // bytes the server may send per stream before it gets credit
	maxFrame     uint32 // largest payload the client takes
}

func (h *hello) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint16(dst, h.minVersion)
	dst = binary.BigEndian.AppendUint16(dst, h.maxVersion)
	dst = append(dst, byte(h.role), 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, h.capabilities)
	dst = binary.BigEndian.AppendUint32(dst, h.window)
	dst = binary.BigEndian.AppendUint32(dst, h.maxFrame)
	return binary.BigEndian.AppendUint32(dst, codec.Checksum(dst[start:]))
}

// readHello reads a client's hello. Whoever says something else gets an
// error which names what it seems to be.
func readHello(r io.Reader) (hello, error) {
	buf := make([]byte, helloSize)
	if n, err := io.ReadFull(r, buf[:len(magic)]); err != nil {
		return hello{}, errkind.New(errkind.BadRequest, "cannot read hello, got %q: %w", buf[:n], err)
	}
	if string(buf[:len(magic)]) != magic {
		return hello{}, errkind.New(errkind.BadRequest, "cannot serve %s", stranger(buf[:len(magic)]))
	}
	if _, err := io.ReadFull(r, buf[len(magic):]); err != nil {
		return hello{}, errkind.New(errkind.BadRequest, "cannot read hello: %w", err)
	}
	if got, want := codec.Checksum(buf[:32]), binary.BigEndian.Uint32(buf[32:]); got != want {
		return hello{}, errkind.New(errkind.Corrupt, "cannot read hello: checksum is %#x, want %#x", got, want)
	}
	return hello{
		minVersion:   binary.BigEndian.Uint16(buf[8:]),
		maxVersion:   binary.BigEndian.Uint16(buf[10:]),
		role:         Role(buf[12]),
		capabilities: binary.BigEndian.Uint64(buf[16:]),
		window:       binary.BigEndian.Uint32(buf[24:]),
		maxFrame:     binary.BigEndian.Uint32(buf[28:]),
	}, nil
}

// looksLikeHTTP reports whether the first bytes of a connection, at least four, are an HTTP request.
func looksLikeHTTP(first []byte) bool {
	for method := range strings.SplitSeq("GET ,POST ,HEAD ,PUT ,DELETE ,OPTIONS ,PATCH ,CONNECT ,PRI * HT", ",") {
		if n := min(len(first), len(method)); string(first[:n]) == method[:n] {
			return true
		}
	}
	return false
}

// stranger describes a peer by its first bytes.
func stranger(first []byte) string {
	switch {
	case looksLikeHTTP(first):
		return "HTTP request: this port speaks the protocol between cluster nodes; send HTTP to the port in -httpListenAddr"
	case first[0] == 0x16 && first[1] == 3:
		return "TLS connection: this node was started without -cluster.tls; set it here, or remove it at the peer; for -clusternativeListenAddr it is -clusternative.tls"
	}
	return "peer which starts with " + quoteBytes(first) + ": it does not speak the protocol between cluster nodes"
}

func quoteBytes(b []byte) string {
	const hex = "0123456789abcdef"
	var s strings.Builder
	s.WriteByte('"')
	for _, c := range b {
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			s.WriteByte(c)
			continue
		}
		s.WriteString(`\x`)
		s.WriteByte(hex[c>>4])
		s.WriteByte(hex[c&15])
	}
	s.WriteByte('"')
	return s.String()
}

// helloReply is the server's answer to a hello.
type helloReply struct {
	version      uint16       // 0 when refused
	status       errkind.Kind // OK or why the connection is refused
	role         Role         // what the server is for
	maxStreams   uint16       // calls which may be under way at once
	capabilities uint64       // those which both sides have
	maxFrame     uint32       // largest payload the server takes
	text         string       // why, for people
}

func (h *helloReply) appendTo(dst []byte) []byte {
	start := len(dst)
	text := h.text[:min(len(h.text), maxErrorText)]
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint16(dst, h.version)
	dst = append(dst, byte(h.status), byte(h.role))
	dst = binary.BigEndian.AppendUint16(dst, h.maxStreams)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(text)))
	dst = binary.BigEndian.AppendUint64(dst, h.capabilities)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, h.maxFrame)
	crc := codec.UpdateChecksum(codec.Checksum(dst[start:]), []byte(text))
	dst = binary.BigEndian.AppendUint32(dst, crc)
	return append(dst, text...)
}

func readHelloReply(r io.Reader) (helloReply, error) {
	buf := make([]byte, helloSize)
	if n, err := io.ReadFull(r, buf); err != nil {
		if n > 1 && buf[0] == recordAlert && buf[1] == 3 {
			return helloReply{}, errkind.New(errkind.Unavailable, "the node speaks TLS only: set -cluster.tls here, or remove it there")
		}
		return helloReply{}, errkind.New(errkind.Unavailable, "cannot read answer to hello, got %s: %w", quoteBytes(buf[:n]), err)
	}
	if string(buf[:len(magic)]) != magic {
		return helloReply{}, errkind.New(errkind.Unavailable, "the peer answers %s: it does not speak the protocol between cluster nodes; check host and port", quoteBytes(buf[:len(magic)]))
	}
	text := make([]byte, binary.BigEndian.Uint16(buf[14:]))
	if _, err := io.ReadFull(r, text); err != nil {
		return helloReply{}, errkind.New(errkind.Unavailable, "cannot read answer to hello: %w", err)
	}
	if got, want := codec.UpdateChecksum(codec.Checksum(buf[:32]), text), binary.BigEndian.Uint32(buf[32:]); got != want {
		return helloReply{}, errkind.New(errkind.Unavailable, "cannot read answer to hello: checksum is %#x, want %#x", got, want)
	}
	return helloReply{
		version:      binary.BigEndian.Uint16(buf[8:]),
		status:       errkind.Kind(buf[10]),
		role:         Role(buf[11]),
		maxStreams:   binary.BigEndian.Uint16(buf[12:]),
		capabilities: binary.BigEndian.Uint64(buf[16:]),
		maxFrame:     binary.BigEndian.Uint32(buf[28:]),
		text:         string(text),
	}, nil
}

// answer decides about a client's hello.
func (o *ServerOptions) answer(h hello, draining bool) helloReply {
	reply := helloReply{
		role:         o.Role,
		maxStreams:   uint16(o.Config.MaxStreams),
		capabilities: h.capabilities & o.Capabilities,
		maxFrame:     uint32(o.Config.MaxFrame),
	}
	refuse := func(err error) helloReply {
		reply.status, reply.text = errkind.Of(err), err.Error()
		return reply
	}
	switch {
	case h.role != o.Role:
		return refuse(errkind.New(errkind.BadRequest, "this port is for %s and was dialled by %s: check the port", o.Role.Peer(), h.role.Peer()))
	case h.maxVersion < minVersion || h.minVersion > maxVersion:
		return refuse(errkind.New(errkind.Unsupported, "cannot speak protocol version %d..%d: this node speaks %d..%d; upgrade the older one",
			h.minVersion, h.maxVersion, minVersion, maxVersion))
	case h.window == 0 || h.maxFrame < frameHeaderSize:
		return refuse(errkind.New(errkind.BadRequest, "cannot serve a window of %d and frames of %d bytes", h.window, h.maxFrame))
	case draining:
		return refuse(errkind.New(errkind.Draining, "the node is shutting down"))
	}
	reply.version = min(h.maxVersion, maxVersion)
	return reply
}

// sayGoodbye tells an HTTP client what it has reached.
func sayGoodbye(conn net.Conn, err error) {
	text := err.Error() + "\n"
	// The peer may be gone, and then nobody is left to tell.
	_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"+text)
}
