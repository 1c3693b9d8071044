package csvimport

import (
	"math"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/errkind"
	"vmcluster/lib/protoparser"
)

// maxColumn bounds the numbers of columns in formats.
const maxColumn = 10_000

// layout is a parsed format: what the columns are, by number from 0.
type layout struct {
	columns []column
	metrics int
}

type column struct {
	kind byte // 0: left alone
	name string
	time func(field string) (ms int64, ok bool)
}

const (
	kindLabel  = 'l'
	kindMetric = 'm'
	kindTime   = 't'
)

// parseLayout parses the format argument. Errors are of kind BadRequest.
func parseLayout(format string) (*layout, error) {
	l := &layout{}
	hasTime := false
	for i, entry := range strings.Split(format, ",") {
		parts := strings.SplitN(strings.TrimSpace(entry), ":", 3)
		if len(parts) != 3 {
			return nil, bad(format, "entry %d is %q: want <column>:<type>:<what>, such as 2:metric:temperature", i+1, entry)
		}
		n, err := strconv.Atoi(parts[0])
		if err != nil || n < 1 || n > maxColumn {
			return nil, bad(format, "the column of entry %d is %q: want a number from 1 to %d", i+1, parts[0], maxColumn)
		}
		for len(l.columns) < n {
			l.columns = append(l.columns, column{})
		}
		c := &l.columns[n-1]
		if c.kind != 0 {
			return nil, bad(format, "column %d is there twice", n)
		}
		if *c, err = parseColumn(format, parts[1], parts[2]); err != nil {
			return nil, err
		}
		switch {
		case c.kind == kindMetric:
			l.metrics++
		case c.kind == kindTime && hasTime:
			return nil, bad(format, "there is more than one column of type time")
		case c.kind == kindTime:
			hasTime = true
		}
	}
	if l.metrics == 0 {
		return nil, bad(format, "there is no column of type metric")
	}
	return l, nil
}

func bad(format, text string, args ...any) error {
	return errkind.New(errkind.BadRequest, "cannot parse query arg format=%q: "+text, append([]any{format}, args...)...)
}

func parseColumn(format, kind, what string) (column, error) {
	switch kind {
	case "label", "metric":
		if what == "" {
			return column{}, bad(format, "a column of type %s has no name", kind)
		}
		return column{kind: kind[0], name: what}, nil
	case "time":
		parse := timeParser(what)
		if parse == nil {
			return column{}, bad(format, "unknown time format %q: want unix_s, unix_ms, unix_ns, rfc3339 or custom:<layout>, a layout being 2006-01-02 15:04:05 written in the form of the times", what)
		}
		return column{kind: kindTime, time: parse}, nil
	}
	return column{}, bad(format, "unknown column type %q: want metric, label or time", kind)
}

// timeParser returns what parses times of the format, or nil if there is no such.
func timeParser(what string) func(string) (int64, bool) {
	if layout, ok := strings.CutPrefix(what, "custom:"); ok && layout != "" {
		return layoutParser(layout)
	}
	switch what {
	case "unix_s":
		return parseSeconds
	case "unix_ms":
		return parseInt
	case "unix_ns":
		return func(s string) (int64, bool) {
			n, ok := parseInt(s)
			return n / 1e6, ok
		}
	case "rfc3339":
		return layoutParser(time.RFC3339)
	}
	return nil
}

func parseInt(s string) (int64, bool) { return protoparser.ParseInt(bytesutil.Bytes(s)) }

func parseSeconds(s string) (int64, bool) {
	if n, ok := parseInt(s); ok && n < math.MaxInt64/1000 && n > math.MinInt64/1000 {
		return n * 1000, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(math.Abs(f) < math.MaxInt64/1000) {
		return 0, false
	}
	return int64(math.Round(f * 1000)), true
}

func layoutParser(layout string) func(string) (int64, bool) {
	return func(s string) (int64, bool) {
		t, err := time.ParseInLocation(layout, s, time.UTC)
		return t.UnixMilli(), err == nil
	}
}
