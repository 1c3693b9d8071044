package partition

import (
	"encoding/binary"
	"strings"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

const (
	manifestName    = "MANIFEST"
	manifestMagic   = "vmpm"
	manifestVersion = 1
	maxPartName     = 64
)

// manifest is the list of the parts of a partition. The byte page is docs/format/partition.md.
type manifest struct {
	nextSeq uint64 // greater than the number of every part ever listed
	parts   []manifestPart
}

type manifestPart struct {
	name   string
	blocks int64
	PartInfo
}

// AppendTo appends the contents of a MANIFEST file.
func (m *manifest) AppendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, manifestMagic...)
	dst = append(dst, manifestVersion)
	dst = codec.AppendUvarint(dst, m.nextSeq)
	dst = codec.AppendUvarint(dst, uint64(len(m.parts)))
	for i := range m.parts {
		p := &m.parts[i]
		dst = codec.AppendBytes(dst, []byte(p.name))
		dst = codec.AppendUvarint(dst, uint64(p.Rows))
		dst = codec.AppendUvarint(dst, uint64(p.blocks))
		dst = codec.AppendVarint(dst, p.MinTimestamp)
		dst = codec.AppendVarint(dst, p.MaxTimestamp)
		dst = codec.AppendUvarint(dst, uint64(p.SizeBytes))
	}
	return binary.LittleEndian.AppendUint32(dst, codec.Checksum(dst[start:]))
}

// parseManifest parses the contents of a MANIFEST file. Errors are of kind Corrupt.
func parseManifest(src []byte) (*manifest, error) {
	const header = len(manifestMagic) + 1
	if len(src) < header+4 || string(src[:len(manifestMagic)]) != manifestMagic {
		return nil, errkind.New(errkind.Corrupt, "cannot parse MANIFEST of %d bytes: it does not start with %q", len(src), manifestMagic)
	}
	body, sum := src[:len(src)-4], binary.LittleEndian.Uint32(src[len(src)-4:])
	if got := codec.Checksum(body); got != sum {
		return nil, errkind.New(errkind.Corrupt, "cannot parse MANIFEST: its checksum is %08x; want %08x", got, sum)
	}
	if v := src[len(manifestMagic)]; v != manifestVersion {
		return nil, errkind.New(errkind.Unsupported, "cannot parse MANIFEST: it has version %d and this program knows %d; use the version which wrote it, or a newer one", v, manifestVersion)
	}
	r := reader{tail: body[header:]}
	m := &manifest{nextSeq: r.uvarint()}
	count := r.uvarint()
	for i := uint64(0); i < count && r.err == nil; i++ {
		m.parts = append(m.parts, r.part())
	}
	if r.err == nil && len(r.tail) > 0 {
		r.err = errkind.New(errkind.Corrupt, "%d bytes follow the last part", len(r.tail))
	}
	if r.err != nil {
		return nil, errkind.New(errkind.Corrupt, "cannot parse MANIFEST: %w", r.err)
	}
	return m, nil
}

// reader cuts values off tail until the first error.
type reader struct {
	tail []byte
	err  error
}

func (r *reader) uvarint() uint64 {
	var x uint64
	if r.err == nil {
		x, r.tail, r.err = codec.CutUvarint(r.tail)
	}
	return x
}

func (r *reader) count() int64 {
	x := r.uvarint()
	if x > 1<<62 && r.err == nil {
		r.err = errkind.New(errkind.Corrupt, "number %d is too large", x)
	}
	return int64(x)
}

func (r *reader) varint() int64 {
	var x int64
	if r.err == nil {
		x, r.tail, r.err = codec.CutVarint(r.tail)
	}
	return x
}

func (r *reader) name() string {
	var b []byte
	if r.err == nil {
		b, r.tail, r.err = codec.CutBytes(r.tail)
	}
	name := string(b)
	if r.err == nil && !validPartName(name) {
		r.err = errkind.New(errkind.Corrupt, "bad part name %q", name)
	}
	return name
}

func (r *reader) part() manifestPart {
	p := manifestPart{name: r.name()}
	p.Rows = r.count()
	p.blocks = r.count()
	p.MinTimestamp = r.varint()
	p.MaxTimestamp = r.varint()
	p.SizeBytes = r.count()
	return p
}

// validPartName reports whether name is that of a finished part: lower-case hex digits.
func validPartName(name string) bool {
	return name != "" && len(name) <= maxPartName && strings.Trim(name, "0123456789abcdef") == ""
}
