package exposition

import (
	"bytes"
	"strings"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// described gathers the HELP, TYPE and UNIT lines of one metric, which follow each other.
type described struct {
	to     *protoparser.Metadata
	count  int
	metric []byte
	unit   []byte
	help   []byte
	kind   model.MetricType
}

// comment takes a line that begins with #.
func (d *described) comment(line []byte) {
	line = trimLeft(line[1:])
	keyword, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return
	}
	word := bytesutil.String(keyword)
	if word != "HELP" && word != "TYPE" && word != "UNIT" {
		return
	}
	rest = trimLeft(rest)
	end := 0
	for end < len(rest) && !isSpace(rest[end]) {
		end++
	}
	metric, text := rest[:end], trimLeft(rest[end:])
	if len(metric) == 0 {
		return
	}
	if !bytes.Equal(metric, d.metric) {
		d.flush()
		d.metric = append(d.metric[:0], metric...)
	}
	switch word {
	case "HELP":
		d.help = append(d.help[:0], text...)
	case "UNIT":
		d.unit = append(d.unit[:0], text...)
	default:
		d.kind = model.ParseMetricType(strings.TrimSpace(bytesutil.String(text)))
	}
}

// flush hands the metric on.
func (d *described) flush() {
	if len(d.metric) > 0 {
		d.count++
		d.to.Add(bytesutil.String(unquote(d.metric)), d.kind, bytesutil.String(d.unit), unescapeHelp(d.help))
	}
	d.metric, d.unit, d.help, d.kind = d.metric[:0], d.unit[:0], d.help[:0], model.TypeUnknown
}

// unquote removes the quotes around a name, which Prometheus 3 writes when it has special characters.
func unquote(name []byte) []byte {
	if len(name) > 1 && name[0] == '"' && name[len(name)-1] == '"' {
		return name[1 : len(name)-1]
	}
	return name
}

// unescapeHelp undoes the escapes of help texts: line feeds, backslashes, and the quotes of OpenMetrics.
func unescapeHelp(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return bytesutil.String(b)
	}
	var out strings.Builder
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '\\' && i+1 < len(b) {
			switch b[i+1] {
			case 'n':
				c = '\n'
				i++
			case '\\', '"':
				c = b[i+1]
				i++
			}
		}
		out.WriteByte(c)
	}
	return out.String()
}
