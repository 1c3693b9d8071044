package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strings"

	"vmcluster/lib/prompb"
)

// ColumnsOptions say what to write of a dataset.
type ColumnsOptions struct {
	Dataset string
	Format  string
	Parts   string
}

// RegisterFlags registers the flags of `vmbench columns`.
func (o *ColumnsOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Dataset, "dataset", "", "folder of the dataset")
	fs.StringVar(&o.Format, "format", "decimal", "of values: float (raw), delta2 (zigzag varint of decimal delta of deltas), decimal (zigzag varint of decimal deltas)")
	fs.StringVar(&o.Parts, "parts", "tvn", "what to write: t(imestamps), v(alues), n(ames and labels)")
}

// column is one series.
type column struct {
	name       string
	timestamps []int64
	values     []float64
}

// WriteColumns writes the samples of a dataset series by series, to be piped to
// zstd or xz: for each series its labels, its timestamps as zigzag varints of the
// delta of deltas, then its values. The compressed size is a floor of the disk size.
func WriteColumns(w io.Writer, o ColumnsOptions) error {
	if o.Dataset == "" {
		return errors.New("cannot write columns: give -dataset")
	}
	if o.Format != "float" && o.Format != "delta2" && o.Format != "decimal" || strings.Trim(o.Parts, "tvn") != "" {
		return fmt.Errorf("cannot write columns as -format=%s -parts=%s: give float, delta2 or decimal, and some of the letters tvn", o.Format, o.Parts)
	}
	columns, err := readColumns(o.Dataset)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	var buf []byte
	for _, c := range columns {
		buf = c.appendTo(buf[:0], &o)
		if _, err := out.Write(buf); err != nil {
			return fmt.Errorf("cannot write columns: %w", err)
		}
	}
	return out.Flush()
}

// readColumns returns the series in the order of their first sample.
func readColumns(dir string) ([]*column, error) {
	var columns []*column
	byName := map[string]*column{}
	var key []byte
	err := ReadSeries(dir, func(s *prompb.TimeSeries[prompb.Label]) error {
		key = key[:0]
		for _, l := range s.Labels {
			key = append(append(append(append(key, l.Name...), 1), l.Value...), 2)
		}
		c := byName[string(key)]
		if c == nil {
			c = &column{name: string(key)}
			byName[c.name] = c
			columns = append(columns, c)
		}
		for _, sample := range s.Samples {
			c.timestamps = append(c.timestamps, sample.Timestamp)
			c.values = append(c.values, sample.Value)
		}
		return nil
	})
	return columns, err
}

func (c *column) appendTo(dst []byte, o *ColumnsOptions) []byte {
	if strings.Contains(o.Parts, "n") {
		dst = append(append(dst, c.name...), 3)
	}
	if strings.Contains(o.Parts, "t") {
		dst = appendDeltas(dst, c.timestamps, 2)
	}
	if !strings.Contains(o.Parts, "v") {
		return dst
	}
	ints, exponent, ok := toDecimals(c.values)
	switch {
	case o.Format == "float" || !ok:
		for _, v := range c.values {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
		}
		return dst
	case o.Format == "delta2":
		return appendDeltas(append(dst, exponent), ints, 2)
	}
	return appendDeltas(append(dst, exponent), ints, 1)
}

// appendDeltas appends the values' differences of the given order.
func appendDeltas(dst []byte, values []int64, order int) []byte {
	var last, lastDelta int64
	for _, v := range values {
		delta := v - last
		if order == 2 {
			dst = binary.AppendVarint(dst, delta-lastDelta)
		} else {
			dst = binary.AppendVarint(dst, delta)
		}
		last, lastDelta = v, delta
	}
	return dst
}

// toDecimals returns the values as integers times a common power of ten, if
// that is exact for all of them.
func toDecimals(values []float64) (ints []int64, exponent byte, ok bool) {
	for exponent = range byte(13) {
		if ints, ok = scaled(values, math.Pow10(int(exponent)), ints[:0]); ok {
			return ints, exponent, true
		}
	}
	return nil, 0, false
}

// scaled appends the values times the scale, if that makes integers of all of them.
func scaled(values []float64, scale float64, dst []int64) ([]int64, bool) {
	for _, v := range values {
		n := math.Round(v * scale)
		if !(math.Abs(n) < 1<<53) || n/scale != v {
			return dst, false
		}
		dst = append(dst, int64(n))
	}
	return dst, true
}
