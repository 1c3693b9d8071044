package index

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"vmcluster/lib/vfs"
)

const (
	manifestName  = "MANIFEST"
	manifestMagic = "vmclman" // followed by the version byte
	// manifestVersion is the version of the manifest only.
	manifestVersion = 2
	segmentPrefix   = "seg-"
	dayPrefix       = "day-"
	tempSuffix      = ".tmp"
	maxFileName     = 64
)

// manifest is the list of files that are valid. A new file of a day is used before it is listed.
type manifest struct {
	nextSeq  uint64
	segments []string
	deleted  string  // file of deleted series, if there is one
	days     []int32 // which have a file, ascending
}

func (m *manifest) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, manifestMagic...)
	dst = append(dst, manifestVersion)
	dst = binary.LittleEndian.AppendUint64(dst, m.nextSeq)
	dst = binary.AppendUvarint(dst, uint64(len(m.segments)))
	for _, s := range m.segments {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.deleted)))
	dst = append(dst, m.deleted...)
	dst = binary.AppendUvarint(dst, uint64(len(m.days)))
	before := int64(0)
	for _, day := range m.days {
		dst = binary.AppendVarint(dst, int64(day)-before)
		before = int64(day)
	}
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

func decodeManifest(data []byte, path string) (manifest, error) {
	n := len(data) - 4
	if n < len(manifestMagic)+1 || string(data[:len(manifestMagic)]) != manifestMagic {
		return manifest{}, corrupt(path, "header")
	}
	if checksum(data[:n]) != binary.LittleEndian.Uint32(data[n:]) {
		return manifest{}, corrupt(path, "contents: wrong checksum")
	}
	if v := data[len(manifestMagic)]; v != manifestVersion {
		return manifest{}, unknownVersion(path, v, manifestVersion)
	}
	r := reader{b: data[len(manifestMagic)+1 : n]}
	m := manifest{nextSeq: r.u64()}
	for range r.length(1) {
		m.segments = append(m.segments, fileName(&r, segmentPrefix))
	}
	if m.deleted = fileName(&r, deletedPrefix); strings.HasSuffix(m.deleted, copySuffix) {
		r.fail()
	}
	m.days = readDays(&r)
	if r.bad || len(r.b) > 0 {
		return manifest{}, corrupt(path, "contents")
	}
	return m, nil
}

// readDays reads ascending days.
func readDays(r *reader) (days []int32) {
	day := int64(0)
	for i := range r.length(1) {
		step, n := binary.Varint(r.b)
		if n <= 0 || i > 0 && step <= 0 || step > math.MaxUint32 || step < math.MinInt32 {
			r.fail()
			return nil
		}
		r.b = r.b[n:]
		if day += step; day > math.MaxInt32 {
			r.fail()
			return nil
		}
		days = append(days, int32(day))
	}
	return days
}

// fileName reads the name of a file which is to start with prefix. It is empty for files of deleted series only.
func fileName(r *reader, prefix string) string {
	name := string(r.bytes(r.uvarint()))
	if name == "" && prefix == deletedPrefix {
		return ""
	}
	if len(name) > maxFileName || !strings.HasPrefix(name, prefix) || filepath.Base(name) != name {
		r.fail()
	}
	return name
}

// loadManifest reads the manifest, or starts one where nothing was ever stored. When it is damaged or missing all
// segments on disk are taken; changed then tells to write it anew.
func (ix *Index) loadManifest() (m manifest, changed bool, err error) {
	path := filepath.Join(ix.o.Dir, manifestName)
	data, err := ix.o.FS.ReadFile(path)
	if err == nil {
		if m, err = decodeManifest(data, path); err == nil {
			return m, false, nil
		}
	}
	if !isDamage(err) {
		return m, false, err
	}
	entries, listErr := ix.o.FS.ReadDir(ix.o.Dir)
	if listErr != nil {
		return m, false, listErr
	}
	m = manifestFromFiles(entries)
	if len(m.segments) == 0 && m.deleted == "" && errors.Is(err, fs.ErrNotExist) {
		return m, true, nil // a new index
	}
	ix.corruptFiles.Inc()
	ix.o.Logger.Errorf("index file %q is set aside as %q; all %d segments in its directory are used instead, which loses nothing: %s", path, path+corruptSuffix, len(m.segments), err)
	return m, true, ix.setAside(manifestName)
}

// removeUnlisted deletes the files an interrupted flush or merge has left behind. The manifest may have been read from
// memory that a killed process left to the system, so it is made durable before anything is deleted for its sake.
func (m *manifest) removeUnlisted(fsys vfs.FS, dir string) error {
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	listed := map[string]bool{m.deleted: true, m.deleted + copySuffix: true}
	for _, name := range m.segments {
		listed[name] = true
	}
	for _, e := range entries {
		unlisted := (isSegmentName(e.Name) || isDeletedName(e.Name)) && !listed[e.Name]
		if !unlisted && !strings.HasSuffix(e.Name, tempSuffix) {
			continue
		}
		if err := fsys.RemoveAll(filepath.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return nil
}
