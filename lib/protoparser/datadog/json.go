package datadog

import (
	"cmp"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// jsonFormat is what is particular to one of the two kinds of series in JSON.
type jsonFormat struct {
	member func(x *series, key, value []byte) (fault string)          // reads a member which only this kind has, if it is one
	point  func(x *series, s *protoparser.JSONScanner) (fault string) // reads an element of points
}

// jsonV1 is that of /api/v1/series.
func jsonV1() jsonFormat {
	return jsonFormat{point: (*series).pair, member: func(x *series, key, value []byte) (fault string) {
		switch string(key) {
		case `"host"`:
			return x.addJSON(hostName, value)
		case `"device"`:
			return x.addJSON(deviceName, value)
		}
		return ""
	}}
}

// jsonV2 is that of /api/v2/series.
func jsonV2() jsonFormat {
	return jsonFormat{point: (*series).point, member: func(x *series, key, value []byte) (fault string) {
		switch string(key) {
		case `"source_type_name"`:
			return x.addJSON(sourceType, value)
		case `"resources"`:
			return x.each(value, "resources", (*series).resource)
		}
		return ""
	}}
}

// readJSON reads the series which comes next. It returns what is wrong with it, or nothing.
func (x *series) readJSON(s *protoparser.JSONScanner, format *jsonFormat) (fault string) {
	x.reset()
	if s.Next() != '{' {
		s.Value()
		return "it is no object"
	}
	var tags []byte // they come last, as they win over what else has their name
	for s.Enter(); s.More('}'); {
		key, value := s.Member()
		f := ""
		switch string(key) {
		case `"metric"`:
			f = x.addJSON(metricName, value)
		case `"tags"`:
			tags = value
		case `"points"`:
			f = x.each(value, "points", format.point)
		default:
			f = format.member(x, key, value)
		}
		fault = cmp.Or(fault, f)
	}
	s.Leave()
	fault = cmp.Or(fault, x.each(tags, "tags", (*series).tag))
	return cmp.Or(fault, x.fault())
}

// each has read read the elements of an array, of which there may be none.
func (x *series) each(array []byte, name string, read func(*series, *protoparser.JSONScanner) string) (fault string) {
	x.list = *protoparser.NewJSONScanner(array)
	s := &x.list
	switch s.Next() {
	case '[':
		for s.Enter(); s.More(']') && fault == ""; {
			fault = read(x, s)
		}
		return fault
	case 0, 'n':
		return ""
	}
	return `"` + name + `" is no array`
}

func (x *series) tag(s *protoparser.JSONScanner) (fault string) { return x.addJSON(tag, s.Value()) }

// resource reads {"type": "host", "name": "web1"}.
func (x *series) resource(s *protoparser.JSONScanner) (fault string) {
	if s.Next() != '{' {
		return "a resource is no object"
	}
	var kind, name []byte
	for s.Enter(); s.More('}'); {
		switch key, value := s.Member(); string(key) {
		case `"type"`:
			kind = value
		case `"name"`:
			name = value
		}
	}
	s.Leave()
	if fault = x.addJSON(resourceType, kind); fault == "" {
		fault = x.addJSON(resourceName, name)
	}
	return fault
}

// pair reads a point [time, value].
func (x *series) pair(s *protoparser.JSONScanner) (fault string) {
	if s.Next() != '[' {
		return "a point is no array of time and value"
	}
	var parts [2][]byte
	n := 0
	for s.Enter(); s.More(']'); n++ {
		part := s.Value()
		if n < len(parts) {
			parts[n] = part
		}
	}
	s.Leave()
	if n != len(parts) {
		return "a point is no array of time and value"
	}
	return x.addPoint(parts[0], parts[1])
}

// point reads a point {"timestamp": 1717200000, "value": 0.5}.
func (x *series) point(s *protoparser.JSONScanner) (fault string) {
	if s.Next() != '{' {
		return "a point is no object"
	}
	var timestamp, value []byte
	for s.Enter(); s.More('}'); {
		switch key, member := s.Member(); string(key) {
		case `"timestamp"`:
			timestamp = member
		case `"value"`:
			value = member
		}
	}
	s.Leave()
	return x.addPoint(timestamp, value)
}

func (x *series) addPoint(timestamp, value []byte) (fault string) {
	if string(value) == "null" {
		x.nulls++
		return ""
	}
	v, ok := protoparser.ParseFloat(protoparser.UnquoteNumber(value))
	if !ok {
		return "the value of a point is not a number"
	}
	ms, ok := protoparser.Seconds(protoparser.UnquoteNumber(timestamp))
	if !ok {
		return "the time of a point is not a number of seconds"
	}
	x.samples = append(x.samples, model.Sample{Timestamp: ms, Value: v})
	return ""
}

// addJSON adds a text given as a JSON string; null and nothing are an empty one.
func (x *series) addJSON(kind byte, value []byte) (fault string) {
	text, ok := protoparser.JSONText(value)
	if !ok && len(value) > 0 && string(value) != "null" {
		return "a name, host or tag is not a text"
	}
	x.add(kind, text)
	return ""
}
