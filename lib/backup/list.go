package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/storage"
)

// Keys of the objects which are not pieces of files.
const (
	listKey = "backup_metadata.ignore"
	markKey = "backup_complete.ignore"
	lockKey = "backup_locked.ignore"
)

const listVersion = 1

// maxListBytes is far more than the list of the largest node has.
const maxListBytes = 1 << 30

// List tells what is in a backup.
type List struct {
	Version    int       `json:"version"`
	Snapshot   string    `json:"snapshot,omitempty"` // its name
	CreatedAt  time.Time `json:"created_at"`
	SizeBytes  int64     `json:"size_bytes"`  // of all files
	PieceBytes int64     `json:"piece_bytes"` // size of the pieces of files, but for the last one of each
	Files      []File    `json:"files"`       // sorted by path
}

// File is a file of a backup.
type File struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	CRC32C   uint32 `json:"crc32c"`
	Identity string `json:"identity"`
}

// envelope is how the list is stored. The checksum covers the bytes of the list.
type envelope struct {
	List   json.RawMessage `json:"list"`
	CRC32C string          `json:"crc32c"`
}

func newList(files []storage.FileInfo, snapshot string, now time.Time, pieceBytes int64) *List {
	l := &List{Version: listVersion, Snapshot: snapshot, CreatedAt: now.UTC().Truncate(time.Second), PieceBytes: pieceBytes}
	for _, f := range files {
		l.Files = append(l.Files, File(f))
		l.SizeBytes += f.Size
	}
	return l
}

func (l *List) marshal() ([]byte, error) {
	list, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{List: list, CRC32C: fmt.Sprintf("%08x", codec.Checksum(list))})
}

// ParseList decodes a list and checks that a data directory can be made of it.
func ParseList(data []byte) (*List, error) {
	var e envelope
	l := &List{}
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, errkind.New(errkind.Corrupt, "cannot parse list of files: %w", err)
	}
	if want := fmt.Sprintf("%08x", codec.Checksum(e.List)); e.CRC32C != want {
		return nil, errkind.New(errkind.Corrupt, "list of files has the checksum %q; want %q", e.CRC32C, want)
	}
	if err := json.Unmarshal(e.List, l); err != nil {
		return nil, errkind.New(errkind.Corrupt, "cannot parse list of files: %w", err)
	}
	if l.Version != listVersion {
		return nil, errkind.New(errkind.Unsupported, "the backup has format version %d, this release reads version %d: use a newer release", l.Version, listVersion)
	}
	if l.PieceBytes <= 0 {
		return nil, errkind.New(errkind.Corrupt, "pieces of files have %d bytes", l.PieceBytes)
	}
	for i, f := range l.Files {
		if err := f.check(); err != nil {
			return nil, err
		}
		if i > 0 && l.Files[i-1].Path >= f.Path {
			return nil, errkind.New(errkind.Corrupt, "list of files has %q before %q", l.Files[i-1].Path, f.Path)
		}
	}
	return l, nil
}

func (f *File) check() error {
	if f.Path != path.Clean(f.Path) || !strings.HasPrefix(f.Path, "data/") || strings.ContainsAny(f.Path, "\\\x00") {
		return errkind.New(errkind.Corrupt, "list of files has the path %q", f.Path)
	}
	if f.Size < 0 || !isIdentity(f.Identity) {
		return errkind.New(errkind.Corrupt, "list of files has %q with %d bytes and the identity %q", f.Path, f.Size, f.Identity)
	}
	return nil
}

func isIdentity(s string) bool { return isHex(s, 32) }

func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// piece is a part of a file, an object of its own.
type piece struct {
	key          string
	offset, size int64
}

// pieces returns the pieces of a file; an empty file has one.
func (f *File) pieces(most int64) (list []piece) {
	for offset := int64(0); offset == 0 || offset < f.Size; offset += most {
		size := min(most, f.Size-offset)
		list = append(list, piece{key: fmt.Sprintf("%s/%s_%016x_%016x", f.Path, f.Identity, offset, size), offset: offset, size: size})
	}
	return list
}

// isPiece reports whether an object has the key of a piece.
func isPiece(key string) bool {
	dir, name := path.Split(key)
	parts := strings.Split(name, "_")
	return strings.HasPrefix(dir, "data/") && len(parts) == 3 && isIdentity(parts[0]) && isHex(parts[1], 16) && isHex(parts[2], 16)
}

// ReadList returns what is in the backup of a store. A store with no whole backup is an error of kind NotFound, unless incomplete is true and there is a list.
func ReadList(ctx context.Context, s Store, incomplete bool) (*List, error) {
	if !incomplete {
		if _, err := readObject(ctx, s, markKey); err != nil {
			return nil, fmt.Errorf("cannot find a whole backup at %s: %w", s, err)
		}
	}
	data, err := readObject(ctx, s, listKey)
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of files of %s: %w", s, err)
	}
	l, err := ParseList(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of files of %s: %w", s, err)
	}
	return l, nil
}

func readObject(ctx context.Context, s Store, key string) (data []byte, err error) {
	r, err := s.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data, err = io.ReadAll(io.LimitReader(r, maxListBytes+1))
	if err == nil && len(data) > maxListBytes {
		err = errkind.New(errkind.TooLarge, "object %q has more than %d bytes", key, maxListBytes)
	}
	return data, err
}

func putBytes(ctx context.Context, s Store, key string, data []byte) error {
	return s.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
}
