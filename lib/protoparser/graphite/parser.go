package graphite

import (
	"bytes"
	"flag"
	"time"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "graphite"

// MaxLineLen is the longest line in bytes: all labels at their default limits fit.
const MaxLineLen = 1 << 20

// Config holds the flags of the format.
type Config struct {
	TrimTimestamp flagvalue.Duration
	SanitizeNames bool
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.TrimTimestamp = flagvalue.Duration(time.Second)
	fs.Var(&c.TrimTimestamp, "graphiteTrimTimestamp", "Lower timestamps of Graphite lines to multiples of this duration")
	fs.BoolVar(&c.SanitizeNames, "graphite.sanitizeMetricName", false,
		"Replace characters other than a-zA-Z0-9:_. by underscores in the names and tag names of Graphite lines, and dots in a row by one")
}

// Parser reads plaintext lines. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	config   Config
	trimMs   int64
	rows     protoparser.Pool[row]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), config: c, trimMs: c.TrimTimestamp.D().Milliseconds()}
}

// row is the labels of a line. Its strings alias the line or scratch.
type row struct {
	labels  []model.Label
	scratch []byte // sanitized names
}

// Parse stores the samples of all lines which can be parsed, and counts the others. Errors are of kind BadRequest when the
// body cannot be read, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	r := p.rows.Get()
	defer p.putRow(r)
	return p.intake.StoreLines(req, &protoparser.LineOptions{
		Format: p, Counters: p.counters, MaxLen: MaxLineLen, LimitName: "the limit",
		Store: func(c *protoparser.Collector, line []byte) (samples int, fault string) {
			return p.store(c, r, line, req.DefaultTimestamp)
		},
	})
}

func (p *Parser) store(c *protoparser.Collector, r *row, line []byte, now int64) (samples int, fault string) {
	raw, rest := protoparser.CutWord(line)
	word, rest := protoparser.CutWord(rest)
	if len(word) == 0 {
		return 0, "there is no value"
	}
	value, ok := protoparser.ParseFloat(word)
	if !ok {
		return 0, "the value is not a number"
	}
	timestamp := now
	if word, rest = protoparser.CutWord(rest); len(word) > 0 {
		if timestamp, ok = protoparser.Seconds(word); !ok {
			return 0, "the timestamp is not a number of seconds"
		}
		if timestamp <= 0 {
			timestamp = now
		}
	}
	if len(rest) > 0 {
		return 0, "something follows the timestamp"
	}
	started := c.StartRaw(raw, 0, 1)
	if !started && !c.Dropped() {
		if fault = p.parse(r, raw); fault != "" {
			return 0, fault
		}
		started = c.StartNew(r.labels, 1)
	}
	if started {
		c.Sample(protoparser.Lower(timestamp, p.trimMs), value)
	}
	return 1, ""
}

// parse takes name and tags apart and returns what is wrong with them, or nothing.
func (p *Parser) parse(r *row, raw []byte) (fault string) {
	name, tags, more := bytes.Cut(raw, []byte{';'})
	if len(name) == 0 {
		return "there is no name before the tags"
	}
	r.scratch = r.scratch[:0]
	r.labels = append(r.labels[:0], model.Label{Name: model.MetricNameLabel, Value: p.clean(r, name)})
	var tag []byte
	for more {
		tag, tags, more = bytes.Cut(tags, []byte{';'})
		key, value, hasValue := bytes.Cut(tag, []byte{'='})
		if !hasValue || len(key) == 0 {
			return "a tag is not of the form name=value"
		}
		r.labels = append(r.labels, model.Label{Name: p.clean(r, key), Value: bytesutil.String(value)})
	}
	return ""
}

// clean returns a name as it is stored.
func (p *Parser) clean(r *row, name []byte) string {
	if !p.config.SanitizeNames {
		return bytesutil.String(name)
	}
	start := len(r.scratch) // when scratch moves, strings made before stay in the old memory
	for i, c := range name {
		switch {
		case c == '.' && i > 0 && name[i-1] == '.':
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == ':', c == '_', c == '.':
			r.scratch = append(r.scratch, c)
		default:
			r.scratch = append(r.scratch, '_')
		}
	}
	return bytesutil.String(r.scratch[start:])
}

func (p *Parser) putRow(r *row) {
	clear(r.labels[:cap(r.labels)])
	p.rows.Put(r)
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	r := p.rows.Get()
	defer p.putRow(r)
	fault := p.parse(r, raw)
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(r.labels)
}
