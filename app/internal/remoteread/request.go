package remoteread

import (
	"encoding/binary"
	"math"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// responseType is a form of the answer. The numbers are part of the protocol.
type responseType uint64

const (
	samples         responseType = 0
	streamedChunks  responseType = 1
	maxQueries                   = 10_000 // per request; Prometheus sends one
	maxMatchers                  = 10_000 // per query
	maxAcceptedKind              = 100    // response types which a request may list
)

// readRequest is a decoded request.
type readRequest struct {
	queries  []readQuery
	response responseType
}

// readQuery is one of the queries of a request.
type readQuery struct {
	timeRange model.TimeRange
	matchers  []model.TagFilter
}

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// field is one field of a message.
type field struct {
	number uint64
	wire   uint8
	value  uint64 // of a varint
	bytes  []byte // aliases the message
}

// eachField calls visit for every field of a message, in order.
func eachField(message []byte, visit func(f field) error) error {
	for len(message) > 0 {
		f, rest, err := cutField(message)
		if err != nil {
			return err
		}
		message = rest
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// cutField decodes the field at the front of b and returns what follows it.
func cutField(b []byte) (f field, rest []byte, err error) {
	key, n := binary.Uvarint(b)
	if n <= 0 || key>>3 == 0 {
		return f, nil, errTruncated
	}
	f.number, f.wire = key>>3, uint8(key&7)
	b = b[n:]
	size := uint64(0)
	switch f.wire {
	case wireVarint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, errTruncated
		}
		return f, b[n:], nil
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireBytes:
		if size, n = binary.Uvarint(b); n <= 0 {
			return f, nil, errTruncated
		}
		b = b[n:]
	default:
		return f, nil, errkind.New(errkind.BadRequest, "field %d has wire type %d, which protobuf does not know", f.number, f.wire)
	}
	if size > uint64(len(b)) {
		return f, nil, errTruncated
	}
	f.bytes = b[:size]
	return f, b[size:], nil
}

var errTruncated = errkind.New(errkind.BadRequest, "the message ends within a field")

// parseRequest decodes a ReadRequest. Texts are copied.
func parseRequest(message []byte) (*readRequest, error) {
	r := &readRequest{}
	var accepted []responseType
	err := eachField(message, func(f field) (err error) {
		switch f.number {
		case 1:
			if len(r.queries) == maxQueries {
				return errkind.New(errkind.BadRequest, "more than %d queries", maxQueries)
			}
			q, err := parseQuery(f)
			r.queries = append(r.queries, q)
			return err
		case 2:
			accepted, err = appendResponseTypes(accepted, f)
		}
		return err
	})
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot decode the read request: %w", err)
	}
	for _, t := range accepted {
		if t <= streamedChunks {
			r.response = t
			return r, nil
		}
	}
	if len(accepted) > 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot answer in any of the accepted response types %v: known are 0 (SAMPLES) and 1 (STREAMED_XOR_CHUNKS)", accepted)
	}
	return r, nil
}

// appendResponseTypes takes a repeated enum, packed or not.
func appendResponseTypes(dst []responseType, f field) ([]responseType, error) {
	if f.wire == wireVarint {
		return append(dst, responseType(f.value)), tooMany(len(dst), maxAcceptedKind, "response types")
	}
	for b := f.bytes; len(b) > 0; {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errTruncated
		}
		if err := tooMany(len(dst), maxAcceptedKind, "response types"); err != nil {
			return nil, err
		}
		dst, b = append(dst, responseType(v)), b[n:]
	}
	return dst, nil
}

func tooMany(n, limit int, what string) error {
	if n < limit {
		return nil
	}
	return errkind.New(errkind.BadRequest, "more than %d %s", limit, what)
}

// parseQuery decodes a Query. The range of its hints, which is what the caller will look at, narrows that of the query.
func parseQuery(f field) (readQuery, error) {
	var q readQuery
	if f.wire != wireBytes {
		return q, errkind.New(errkind.BadRequest, "a query is not a message")
	}
	var hints model.TimeRange
	err := eachField(f.bytes, func(f field) (err error) {
		switch f.number {
		case 1:
			q.timeRange.Min = int64(f.value)
		case 2:
			q.timeRange.Max = int64(f.value)
		case 3:
			if err := tooMany(len(q.matchers), maxMatchers, "matchers"); err != nil {
				return err
			}
			var m model.TagFilter
			m, err = parseMatcher(f)
			q.matchers = append(q.matchers, m)
		case 4:
			hints, err = parseHints(f)
		}
		return err
	})
	if narrow := (model.TimeRange{Min: max(q.timeRange.Min, hints.Min), Max: min(q.timeRange.Max, hints.Max)}); hints.Max != 0 && narrow.Min <= narrow.Max {
		q.timeRange = narrow
	}
	return q, err
}

func parseHints(f field) (r model.TimeRange, err error) {
	r.Min = math.MinInt64
	err = eachField(f.bytes, func(f field) error {
		switch f.number {
		case 3:
			r.Min = int64(f.value)
		case 4:
			r.Max = int64(f.value)
		}
		return nil
	})
	return r, err
}

// parseMatcher decodes a LabelMatcher; its types have the numbers of our filters.
func parseMatcher(f field) (model.TagFilter, error) {
	var m model.TagFilter
	if f.wire != wireBytes {
		return m, errkind.New(errkind.BadRequest, "a matcher is not a message")
	}
	err := eachField(f.bytes, func(f field) error {
		switch f.number {
		case 1:
			if f.value > uint64(model.NotRegexp) {
				return errkind.New(errkind.BadRequest, "matcher type %d is not known: want 0 (=), 1 (!=), 2 (=~) or 3 (!~)", f.value)
			}
			m.Op = model.FilterOp(f.value)
		case 2:
			m.Name = string(f.bytes)
		case 3:
			m.Value = string(f.bytes)
		}
		return nil
	})
	if err == nil && m.Name == "" {
		err = errkind.New(errkind.BadRequest, "a matcher has no label name")
	}
	return m, err
}
