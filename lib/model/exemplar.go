package model

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
)

// MaxExemplarRunes is how many characters the names and values of an exemplar's own labels may have together. It is the limit of OpenMetrics.
const MaxExemplarRunes = 128

// maxExemplarBytes bounds what AppendExemplarLabels makes: characters have at most 4 bytes, and there is a label with two lengths for each at most.
const maxExemplarBytes = TenantSize + 1 + MaxExemplarRunes*(utf8.UTFMax+2)

// Exemplar is a sample of a series with labels of its own, such as the trace it was seen in.
type Exemplar struct {
	Series    []byte // canonical series key
	Labels    []byte // as AppendExemplarLabels makes them
	Timestamp int64  // Unix milliseconds
	Value     float64
}

// Compare orders exemplars of one series by time; those of one time by labels, then by the bits of the value. Only equal ones compare as 0.
func (e *Exemplar) Compare(o *Exemplar) int {
	return cmp.Or(cmp.Compare(e.Timestamp, o.Timestamp), bytes.Compare(e.Labels, o.Labels), cmp.Compare(math.Float64bits(e.Value), math.Float64bits(o.Value)))
}

// AppendExemplarLabels appends labels of an exemplar in their canonical form. It sorts them in place by name and drops those with empty values. Labels
// which are too long, are no UTF-8 or have a name twice are errors of kind BadRequest.
func AppendExemplarLabels(dst []byte, labels []Label) ([]byte, error) {
	runes := 0
	for i := range labels {
		l := &labels[i]
		if !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			return dst, errkind.New(errkind.BadRequest, "cannot take exemplar with label %q: it is not UTF-8", l.Name)
		}
		if l.Name == MetricNameLabel {
			return dst, errkind.New(errkind.BadRequest, "cannot take exemplar with label %q: only series have it", l.Name)
		}
		runes += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value)
	}
	if runes > MaxExemplarRunes {
		return dst, errkind.New(errkind.BadRequest, "cannot take exemplar: its labels have %d characters, more than %d", runes, MaxExemplarRunes)
	}
	start := len(dst)
	dst, err := AppendSeriesKey(dst, TenantID{}, labels)
	if err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// ParseExemplarLabels appends the labels by ascending name to dst. The strings alias src. An error is of kind Corrupt.
func ParseExemplarLabels(dst []Label, src []byte) ([]Label, error) {
	_, dst, err := ParseSeriesKey(dst, src)
	return dst, err
}

// AppendTo appends the exemplar as it travels between nodes. The series is left out if it is that of previous, which may be nil.
func (e *Exemplar) AppendTo(dst []byte, previous *Exemplar) []byte {
	series := e.Series
	if previous != nil && bytes.Equal(previous.Series, series) {
		series = nil
	}
	dst = codec.AppendBytes(dst, series)
	dst = codec.AppendBytes(dst, e.Labels)
	dst = codec.AppendVarint(dst, e.Timestamp)
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(e.Value))
}

// UnmarshalExemplars reads what AppendTo wrote, one after the other, to the end of src, and appends the exemplars to dst. Their bytes alias src. An
// error is of kind Corrupt.
func UnmarshalExemplars(dst []Exemplar, src []byte) ([]Exemplar, error) {
	var series []byte
	for len(src) > 0 {
		var e Exemplar
		tail, err := e.unmarshal(src)
		if err != nil {
			return dst, errkind.New(errkind.Corrupt, "cannot read exemplar: %w", err)
		}
		if src = tail; len(e.Series) == 0 {
			e.Series = series
		} else if _, _, err := ParseSeriesKey(nil, e.Series); err != nil {
			return dst, err
		}
		if series = e.Series; len(series) == 0 {
			return dst, errkind.New(errkind.Corrupt, "cannot read exemplar: it has no series")
		}
		if err := e.check(); err != nil {
			return dst, err
		}
		dst = append(dst, e)
	}
	return dst, nil
}

// check returns what is wrong with the labels.
func (e *Exemplar) check() error {
	if len(e.Labels) > maxExemplarBytes {
		return errkind.New(errkind.Corrupt, "cannot read exemplar: its labels have %d bytes", len(e.Labels))
	}
	_, err := ParseExemplarLabels(nil, e.Labels)
	return err
}

func (e *Exemplar) unmarshal(src []byte) (tail []byte, err error) {
	if e.Series, src, err = codec.CutBytes(src); err != nil {
		return src, err
	}
	if e.Labels, src, err = codec.CutBytes(src); err != nil {
		return src, err
	}
	if e.Timestamp, src, err = codec.CutVarint(src); err != nil {
		return src, err
	}
	if len(src) < 8 {
		return src, errkind.New(errkind.Corrupt, "%d bytes are left for a value", len(src))
	}
	e.Value = math.Float64frombits(binary.LittleEndian.Uint64(src))
	return src[8:], nil
}
