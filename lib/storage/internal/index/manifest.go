package index

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

const (
	manifestName   = "MANIFEST"
	manifestMagic  = "vmclman" // followed by the version byte
	segmentPrefix  = "seg-"
	dayPrefix      = "day-"
	tempSuffix     = ".tmp"
	maxSegmentName = 64
)

// manifest is the list of segments that are valid.
type manifest struct {
	nextSeq  uint64
	segments []string
}

func (m *manifest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, manifestMagic...)
	dst = append(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint64(dst, m.nextSeq)
	dst = binary.AppendUvarint(dst, uint64(len(m.segments)))
	for _, s := range m.segments {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

func decodeManifest(data []byte, path string) (manifest, error) {
	n := len(data) - 4
	if n < len(manifestMagic)+1 || string(data[:len(manifestMagic)]) != manifestMagic {
		return manifest{}, corrupt(path, "header")
	}
	if data[len(manifestMagic)] != formatVersion {
		return manifest{}, corrupt(path, "header: unknown format version; use a newer release")
	}
	if checksum(data[:n]) != binary.LittleEndian.Uint32(data[n:]) {
		return manifest{}, corrupt(path, "contents: wrong checksum")
	}
	r := reader{b: data[len(manifestMagic)+1 : n]}
	m := manifest{nextSeq: r.u64()}
	for range r.length(1) {
		name := string(r.bytes(r.uvarint()))
		if len(name) > maxSegmentName || !strings.HasPrefix(name, segmentPrefix) || filepath.Base(name) != name {
			r.fail()
		}
		m.segments = append(m.segments, name)
	}
	if r.bad || len(r.b) > 0 {
		return manifest{}, corrupt(path, "contents")
	}
	return m, nil
}

// loadManifest reads the manifest of a directory, or starts one where nothing was ever stored.
func loadManifest(fsys vfs.FS, dir string) (manifest, error) {
	path := filepath.Join(dir, manifestName)
	data, err := fsys.ReadFile(path)
	if err == nil {
		return decodeManifest(data, path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return manifest{}, err
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return manifest{}, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, segmentPrefix) && !strings.HasSuffix(e.Name, tempSuffix) {
			return manifest{}, errkind.New(errkind.Corrupt, "cannot open index %q: it has segment %q but no file %s; restore it from a backup or a replica", dir, e.Name, manifestName)
		}
	}
	var m manifest
	return m, vfs.WriteFileDurable(fsys, path, m.appendTo(nil))
}

// removeUnlisted deletes the files an interrupted flush or merge has left behind.
func (m *manifest) removeUnlisted(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, name := range m.segments {
		listed[name] = true
	}
	for _, e := range entries {
		isSegment := strings.HasPrefix(e.Name, segmentPrefix) && !listed[e.Name]
		if !isSegment && !strings.HasSuffix(e.Name, tempSuffix) {
			continue
		}
		if err := fsys.RemoveAll(filepath.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return nil
}
