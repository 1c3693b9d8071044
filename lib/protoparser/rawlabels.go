package protoparser

import (
	"encoding/binary"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
)

// AppendRawText appends a text in pieces with its size before it. Names and values in turn are the raw labels of a series, for formats which have no such bytes.
func AppendRawText(dst []byte, pieces ...string) []byte {
	n := 0
	for _, s := range pieces {
		n += len(s)
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for _, s := range pieces {
		dst = append(dst, s...)
	}
	return dst
}

// AppendRawLabels appends the labels of which raw ones were made, which their strings are parts of.
func AppendRawLabels(dst []model.Label, raw []byte) []model.Label {
	next := func() string {
		size, n := binary.Uvarint(raw)
		text := raw[n : n+int(size)]
		raw = raw[n+int(size):]
		return bytesutil.String(text)
	}
	for len(raw) > 0 {
		name := next()
		if value := next(); name != "" {
			dst = append(dst, model.Label{Name: name, Value: value})
		}
	}
	return dst
}
