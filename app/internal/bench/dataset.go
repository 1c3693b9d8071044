package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// A dataset is a folder with manifest.json and bodies.bin. The latter is a
// sequence of records: a header of four little-endian uint32 (length of the
// body, samples, scrape number, shard), then the snappy-compressed body.

const (
	manifestFile = "manifest.json"
	bodiesFile   = "bodies.bin"
	maxBodyBytes = 256 << 20
)

// Manifest describes a dataset.
type Manifest struct {
	Seed      uint64  `json:"seed"`
	Hosts     int     `json:"hosts"`
	Late      float64 `json:"late"`
	CPUs      int     `json:"cpus"`
	Scrapes   int     `json:"scrapes"`
	Churn     float64 `json:"churn"`
	ChurnStep int     `json:"churn_every"`
	StartMs   int64   `json:"start_ms"`
	EndMs     int64   `json:"end_ms"`
	Active    int     `json:"active_series"`
	Series    int64   `json:"series"`
	Samples   int64   `json:"samples"`       // stale markers and NaNs included
	Stale     int64   `json:"stale_markers"` // which MetricsQL does not count
	NaNs      int64   `json:"nan_samples"`   // nor these
	Bodies    int64   `json:"bodies"`
	RawBytes  int64   `json:"raw_bytes"`
	Bytes     int64   `json:"bytes"`
	Shards    int     `json:"shards"`
	PhaseAt   int     `json:"phase_at,omitempty"` // scrape at which a replay is split in two phases
	Jobs      string  `json:"jobs,omitempty"`     // values of the label job, separated by commas; empty is node,prometheus
}

// Numbers returns how many samples are numbers, which is what count_over_time of MetricsQL finds.
func (m *Manifest) Numbers() int64 { return m.Samples - m.Stale - m.NaNs }

// jobs returns the values of the label job.
func (m *Manifest) jobs() []string {
	if m.Jobs == "" {
		return []string{"node", "prometheus"}
	}
	return splitList(m.Jobs)
}

// LoadManifest reads the description of the dataset in a folder.
func LoadManifest(dir string) (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("cannot read dataset %q: %w; `vmbench gen -out FOLDER` writes one", dir, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("cannot parse manifest of dataset %q: %w; generate the dataset again", dir, err)
	}
	return m, nil
}

// Body is one remote write request.
type Body struct {
	Samples, Scrape, Shard int
	Numbers                int    // of the samples; not known of a request that was read
	Data                   []byte // compressed
}

// ReadBodies calls f for every request of a dataset in order. Data is not reused.
func ReadBodies(dir string, f func(Body) error) error {
	file, err := os.Open(filepath.Join(dir, bodiesFile))
	if err != nil {
		return fmt.Errorf("cannot open requests of dataset %q: %w; `vmbench gen -out FOLDER` writes them", dir, err)
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	for {
		b, err := readBody(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read requests of dataset %q: %w; generate the dataset again", dir, err)
		}
		if err := f(b); err != nil {
			return err
		}
	}
}

// readBody returns io.EOF at the end.
func readBody(r io.Reader) (Body, error) {
	var header [16]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Body{}, err
	}
	field := func(i int) int { return int(binary.LittleEndian.Uint32(header[4*i:])) }
	if field(0) > maxBodyBytes {
		return Body{}, fmt.Errorf("a request claims to have %d bytes", field(0))
	}
	b := Body{Samples: field(1), Scrape: field(2), Shard: field(3), Data: make([]byte, field(0))}
	if _, err := io.ReadFull(r, b.Data); err != nil {
		return Body{}, fmt.Errorf("a request is cut off: %w", io.ErrUnexpectedEOF)
	}
	return b, nil
}

// ReadSeries calls f for every series of every request of a dataset; f must not keep the series.
func ReadSeries(dir string, f func(*prompb.TimeSeries[prompb.Label]) error) error {
	var decoder prompb.Decoder[prompb.Label]
	var raw []byte
	return ReadBodies(dir, func(b Body) error {
		var err error
		if raw, err = snappy.Decode(raw[:cap(raw)], b.Data); err != nil {
			return fmt.Errorf("cannot decompress request of dataset %q: %w; generate the dataset again", dir, err)
		}
		decoder.Reset(raw)
		for decoder.Next() {
			if err := f(decoder.At()); err != nil {
				return err
			}
		}
		return decoder.Err()
	})
}
