package jsonline

import (
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// parsePlain is parse for a line as exports have them; false when it is another one.
func (l *line) parsePlain(text []byte) (metric []byte, ok bool) {
	if l.bits {
		return nil, false // its values are texts
	}
	s := protoparser.PlainJSON{B: text}
	l.samples, l.nulls = l.samples[:0], 0
	values, timestamps := 0, 0
	for separator := byte('{'); s.Take(separator); separator = ',' {
		key, ok := s.Key()
		if !ok {
			return nil, false
		}
		switch {
		case string(key) == `"metric"` && metric == nil:
			metric, ok = s.Texts()
		case string(key) == `"values"` && values == 0:
			values, ok = l.plainValues(&s)
		case string(key) == `"timestamps"` && timestamps == 0:
			timestamps, ok = l.plainTimestamps(&s)
		default:
			return nil, false
		}
		if !ok {
			return nil, false
		}
	}
	return metric, s.Take('}') && s.AtEnd() && metric != nil && values > 0 && values == timestamps
}

// sample returns a sample of the line, which may be new.
func (l *line) sample(i int) *model.Sample {
	if i == len(l.samples) {
		l.samples = append(l.samples, model.Sample{})
	}
	return &l.samples[i]
}

func (l *line) plainValues(s *protoparser.PlainJSON) (n int, ok bool) {
	for separator := byte('['); s.Take(separator); separator = ',' {
		text, ok := s.Number()
		if !ok {
			return n, false
		}
		if l.sample(n).Value, ok = protoparser.ParseFloat(text); !ok {
			return n, false
		}
		n++
	}
	return n, s.Take(']')
}

func (l *line) plainTimestamps(s *protoparser.PlainJSON) (n int, ok bool) {
	for separator := byte('['); s.Take(separator); separator = ',' {
		text, ok := s.Number()
		if !ok {
			return n, false
		}
		if l.sample(n).Timestamp, ok = protoparser.ParseInt(text); !ok {
			return n, false
		}
		n++
	}
	return n, s.Take(']')
}
