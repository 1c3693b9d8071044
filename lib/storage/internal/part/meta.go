package part

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

// MetaName is the name of the file which describes a part.
const MetaName = "meta.json"

// The names of the other files of a part.
const (
	timestampsName = "timestamps"
	valuesName     = "values"
	blocksName     = "blocks"
)

const formatVersion = 1

// headerSize is the length of the header of the binary files: magic, kind, version.
const headerSize = 8

const magic = "tspart"

// fileHeader returns the header of a file; kind is the first letter of its name.
func fileHeader(name string) string { return magic + name[:1] + string(rune(formatVersion)) }

// Meta describes a part.
type Meta struct {
	Version      int   `json:"version"`
	Rows         int64 `json:"rows"`
	Histograms   int64 `json:"histograms,omitempty"` // native histograms, which are among the rows
	Blocks       int64 `json:"blocks"`
	Series       int64 `json:"series"`
	Columns      int64 `json:"columns"`      // distinct timestamp columns
	MinTimestamp int64 `json:"minTimestamp"` // Unix milliseconds; 0 when there are no rows
	MaxTimestamp int64 `json:"maxTimestamp"`
	SizeBytes    int64 `json:"sizeBytes"` // of all files but meta.json
	// Applied tells of rules for old samples up to which timestamp they have been applied, by rule.
	Applied map[string]int64 `json:"applied,omitempty"`
	Files   []FileMeta       `json:"files"`
}

// FileMeta describes a file of a part.
type FileMeta struct {
	Name      string `json:"name"`
	SizeBytes int64  `json:"sizeBytes"`
	CRC32C    string `json:"crc32c"` // of the whole file, 8 hexadecimal digits
}

// envelope is the contents of meta.json. The checksum covers the bytes of meta.
type envelope struct {
	Meta   json.RawMessage `json:"meta"`
	CRC32C string          `json:"crc32c"`
}

func formatCRC(crc uint32) string { return fmt.Sprintf("%08x", crc) }

func (m *Meta) marshal() ([]byte, error) {
	meta, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot marshal %s: %w", MetaName, err)
	}
	data, err := json.Marshal(envelope{Meta: meta, CRC32C: formatCRC(codec.Checksum(meta))})
	if err != nil {
		return nil, fmt.Errorf("cannot marshal %s: %w", MetaName, err)
	}
	return append(data, '\n'), nil
}

// ParseMeta decodes the contents of meta.json.
func ParseMeta(data []byte) (Meta, error) {
	var e envelope
	var m Meta
	if err := json.Unmarshal(data, &e); err != nil {
		return m, errkind.New(errkind.Corrupt, "cannot parse %s: %w", MetaName, err)
	}
	if want := formatCRC(codec.Checksum(e.Meta)); e.CRC32C != want {
		return m, errkind.New(errkind.Corrupt, "cannot read %s: its checksum is %q; want %s", MetaName, e.CRC32C, want)
	}
	if err := json.Unmarshal(e.Meta, &m); err != nil {
		return m, errkind.New(errkind.Corrupt, "cannot parse %s: %w", MetaName, err)
	}
	if m.Version != formatVersion {
		return m, errkind.New(errkind.Unsupported, "cannot read part of format version %d: this release reads version %d; use a newer release", m.Version, formatVersion)
	}
	return m, nil
}

// file returns what the meta says of a file.
func (m *Meta) file(name string) (FileMeta, error) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, nil
		}
	}
	return FileMeta{}, errkind.New(errkind.Corrupt, "cannot find file %s in %s", name, MetaName)
}

// mapFile maps a file and compares size and header with what they must be.
func mapFile(fsys vfs.FS, dir string, f FileMeta) (vfs.Mapping, error) {
	path := filepath.Join(dir, f.Name)
	mapping, err := fsys.Map(path)
	if err != nil {
		return nil, openError(path, err)
	}
	data := mapping.Bytes()
	if int64(len(data)) != f.SizeBytes || len(data) < headerSize || string(data[:headerSize]) != fileHeader(f.Name) {
		err = errkind.New(errkind.Corrupt, "cannot open %s: it has %d bytes; want %d bytes which start with %s",
			path, len(data), f.SizeBytes, strconv.Quote(fileHeader(f.Name)))
		return nil, errors.Join(err, mapping.Close())
	}
	return mapping, nil
}

// openError gives the loss of a file its kind; other failures, such as too
// many open files, say nothing about the data.
func openError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.New(errkind.Corrupt, "cannot open %s: the part is incomplete: %w", path, err)
	}
	return fmt.Errorf("cannot open %s: %w", path, err)
}
