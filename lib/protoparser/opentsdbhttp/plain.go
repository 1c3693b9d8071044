package opentsdbhttp

import "vmcluster/lib/protoparser"

// plainRow is a row of a body which is as nearly all senders write it. Its labels are parts of the body.
type plainRow struct {
	timestamp int64 // 0: it has none
	value     float64
	metric    []byte
	tags      []byte // empty: it has none
}

// appendPlain appends the rows of a plain body to an empty list; false when it is not plain: there are other members, or the same one twice, or anything is wrong.
func appendPlain(dst []plainRow, body []byte) (rows []plainRow, ok bool) {
	s := protoparser.PlainJSON{B: body}
	var r plainRow
	if s.Next() == '{' {
		r, ok = plainRowOf(&s)
		return append(dst, r), ok && s.AtEnd()
	}
	for separator := byte('['); s.Take(separator); separator = ',' {
		if r, ok = plainRowOf(&s); !ok {
			return dst, false
		}
		dst = append(dst, r)
	}
	return dst, len(dst) > 0 && s.Take(']') && s.AtEnd()
}

func plainRowOf(s *protoparser.PlainJSON) (r plainRow, ok bool) {
	const metric, timestamp, value, tags = 1, 2, 4, 8
	seen := 0
	for separator := byte('{'); s.Take(separator); separator = ',' {
		key, ok := s.Key()
		if !ok {
			return r, false
		}
		member := 0
		switch string(key) {
		case `"metric"`:
			member = metric
			r.metric, ok = s.Text()
		case `"timestamp"`:
			member = timestamp
			r.timestamp, ok = plainTime(s)
		case `"value"`:
			member = value
			var text []byte
			if text, ok = s.Number(); ok {
				r.value, ok = protoparser.ParseFloat(text)
			}
		case `"tags"`:
			member = tags
			r.tags, ok = s.Texts()
		}
		if !ok || member == 0 || seen&member != 0 {
			return r, false
		}
		seen |= member
	}
	return r, s.Take('}') && seen&(metric|value) == metric|value
}

func plainTime(s *protoparser.PlainJSON) (ms int64, ok bool) {
	text, ok := s.Number()
	if !ok {
		return 0, false
	}
	ms, ok = protoparser.SecondsOrMs(text)
	return ms, ok && ms >= 0
}
