package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/codec"
	"vmcluster/lib/storage/internal/part"
	"vmcluster/lib/vfs"
)

// RestoreMark is the name of the file which a restore has in the data directory until it has ended. No storage opens beside it.
const RestoreMark = "restore_in_progress"

// LockName is the name of the file in the data directory which an open storage holds locked.
const LockName = "flock.lock"

// FileInfo describes a file of a snapshot or of the data directory of a storage that is not open.
type FileInfo struct {
	Path   string // from the directory, with slashes
	Size   int64  // bytes
	CRC32C uint32 // what the bytes should have
	// Identity is 32 hexadecimal digits, the same for two files only if they have the same bytes.
	Identity string
}

// ListFiles returns the files below dir/data, sorted by path. Of parts it believes what they say of themselves, without reading their columns.
func ListFiles(fsys vfs.FS, dir string) ([]FileInfo, error) {
	l := fileLister{fsys: fsys, dir: dir}
	if err := l.visit(dataName); err != nil {
		return nil, fmt.Errorf("cannot list files of %q: %w", dir, err)
	}
	slices.SortFunc(l.files, func(a, b FileInfo) int { return strings.Compare(a.Path, b.Path) })
	return l.files, nil
}

type fileLister struct {
	fsys  vfs.FS
	dir   string
	files []FileInfo
}

func (l *fileLister) visit(dir string) error {
	entries, err := l.fsys.ReadDir(filepath.Join(l.dir, filepath.FromSlash(dir)))
	if err != nil {
		return err
	}
	columns := map[string]FileInfo{}
	if path.Base(path.Dir(dir)) == "parts" {
		if columns, err = l.columns(dir); err != nil {
			return err
		}
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if e.IsDir {
			if err := l.visit(name); err != nil {
				return err
			}
			continue
		}
		f, ok := columns[e.Name]
		if !ok || f.Size != e.Size {
			if f, err = l.read(name); err != nil {
				return err
			}
		}
		l.files = append(l.files, f)
	}
	return nil
}

// columns returns what a part says of its files; nothing if it cannot tell.
func (l *fileLister) columns(dir string) (map[string]FileInfo, error) {
	data, err := l.fsys.ReadFile(filepath.Join(l.dir, filepath.FromSlash(dir), part.MetaName))
	if err != nil {
		return nil, nil //nolint:nilerr // a damaged part is backed up as it is
	}
	meta, err := part.ParseMeta(data)
	if err != nil {
		return nil, nil //nolint:nilerr // as above
	}
	files := make(map[string]FileInfo, len(meta.Files))
	for _, f := range meta.Files {
		crc, err := strconv.ParseUint(f.CRC32C, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("cannot parse checksum of %s in %q: %w", f.Name, dir, err)
		}
		h := sha256.New()
		_, _ = h.Write(data)
		_, _ = io.WriteString(h, f.Name)
		files[f.Name] = FileInfo{Path: path.Join(dir, f.Name), Size: f.SizeBytes, CRC32C: uint32(crc), Identity: identityOf(h)}
	}
	return files, nil
}

func identityOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:16]) }

// read describes a file by its bytes.
func (l *fileLister) read(name string) (f FileInfo, err error) {
	r, err := l.fsys.Open(filepath.Join(l.dir, filepath.FromSlash(name)))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	h := sha256.New()
	f.Path = name
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		f.Size += int64(n)
		f.CRC32C = codec.UpdateChecksum(f.CRC32C, buf[:n])
		_, _ = h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			f.Identity = identityOf(h)
			return f, nil
		}
		if err != nil {
			return f, fmt.Errorf("cannot read %s: %w", name, err)
		}
	}
}
