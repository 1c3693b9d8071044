package storage

import (
	"encoding/binary"
	"maps"
	"slices"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

const (
	nameStatsMagic   = "vmns"
	nameStatsVersion = 1
)

// AppendTo appends the contents of the file.
func (n *nameStats) AppendTo(dst []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	start := len(dst)
	dst = append(dst, nameStatsMagic...)
	dst = append(dst, nameStatsVersion)
	dst = codec.AppendVarint(dst, n.mu.sinceSecs)
	dst = codec.AppendUvarint(dst, uint64(len(n.mu.records)))
	for _, prefix := range slices.Sorted(maps.Keys(n.mu.records)) {
		tenant, name := splitPrefix(prefix)
		u := n.mu.records[prefix]
		dst = tenant.AppendTo(dst)
		dst = codec.AppendBytes(dst, []byte(name))
		dst = codec.AppendUvarint(dst, u.Requests)
		dst = codec.AppendVarint(dst, u.LastRequestSecs)
	}
	return binary.LittleEndian.AppendUint32(dst, codec.Checksum(dst[start:]))
}

// unmarshal replaces the counters by those of a file. Errors are of kind Corrupt or Unsupported, and n is
// undefined then. Records beyond the memory for them are left out.
func (n *nameStats) unmarshal(src []byte) error {
	const header = len(nameStatsMagic) + 1
	if len(src) < header+4 || string(src[:len(nameStatsMagic)]) != nameStatsMagic {
		return errkind.New(errkind.Corrupt, "it does not start with %q", nameStatsMagic)
	}
	body, sum := src[:len(src)-4], binary.LittleEndian.Uint32(src[len(src)-4:])
	if got := codec.Checksum(body); got != sum {
		return errkind.New(errkind.Corrupt, "its checksum is %08x; want %08x", got, sum)
	}
	if v := src[len(nameStatsMagic)]; v != nameStatsVersion {
		return errkind.New(errkind.Unsupported, "it has version %d and this program knows %d", v, nameStatsVersion)
	}
	since, tail, err := codec.CutVarint(body[header:])
	if err != nil {
		return err
	}
	count, tail, err := codec.CutUvarint(tail)
	if err != nil {
		return err
	}
	n.reset(since)
	n.mu.Lock()
	defer n.mu.Unlock()
	for range count {
		if tail, err = n.cutRecordLocked(tail); err != nil {
			return err
		}
	}
	if len(tail) > 0 {
		return errkind.New(errkind.Corrupt, "%d bytes follow the last record", len(tail))
	}
	return nil
}

// cutRecordLocked takes a record off the front of src.
func (n *nameStats) cutRecordLocked(src []byte) ([]byte, error) {
	if len(src) < model.TenantSize {
		return nil, errkind.New(errkind.Corrupt, "it ends within a record")
	}
	tenant := model.SeriesKeyTenant(src)
	name, tail, err := codec.CutBytes(src[model.TenantSize:])
	if err != nil {
		return nil, err
	}
	var u storageapi.Usage
	if u.Requests, tail, err = codec.CutUvarint(tail); err != nil {
		return nil, err
	}
	if u.LastRequestSecs, tail, err = codec.CutVarint(tail); err != nil {
		return nil, err
	}
	if r := n.recordLocked(appendPrefix(nil, tenant, string(name))); r != nil {
		*r = u
	}
	return tail, nil
}
