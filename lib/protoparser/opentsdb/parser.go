package opentsdb

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
const Format = "opentsdb"

// MaxLineLen is the longest line in bytes: all labels at their default limits fit.
const MaxLineLen = 1 << 20

// Config holds the flags of the format.
type Config struct {
	TrimTimestamp flagvalue.Duration
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.TrimTimestamp = flagvalue.Duration(time.Second)
	fs.Var(&c.TrimTimestamp, "opentsdbTrimTimestamp", "Lower timestamps of OpenTSDB put lines to multiples of this duration")
}

// Parser reads put lines. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	trimMs   int64
	rows     protoparser.Pool[row]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), trimMs: c.TrimTimestamp.D().Milliseconds()}
}

// row is the labels of a line.
type row struct {
	raw    []byte // metric and tags with a space between
	labels []model.Label
}

// Parse stores the samples of all lines which can be parsed, and counts the others. Errors are of kind BadRequest when the
// body cannot be read, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	r := p.rows.Get()
	defer p.putRow(r)
	return p.intake.StoreLines(req, &protoparser.LineOptions{
		Format: p, Counters: p.counters, MaxLen: MaxLineLen, LimitName: "the limit",
		Store: func(c *protoparser.Collector, line []byte) (samples int, fault string) { return p.store(c, r, line) },
	})
}

func (p *Parser) store(c *protoparser.Collector, r *row, line []byte) (samples int, fault string) {
	command, rest := protoparser.CutWord(line)
	if string(command) != "put" {
		return 0, "it is no put command"
	}
	metric, rest := protoparser.CutWord(rest)
	word, rest := protoparser.CutWord(rest)
	timestamp, ok := protoparser.SecondsOrMs(word)
	if !ok || timestamp <= 0 {
		return 0, "the timestamp is not a number of seconds or milliseconds"
	}
	word, tags := protoparser.CutWord(rest)
	value, ok := protoparser.ParseFloat(word)
	if !ok {
		return 0, "the value is not a number"
	}
	r.raw = append(append(append(r.raw[:0], metric...), ' '), tags...)
	started := c.StartRaw(r.raw, 0, 1)
	if !started && !c.Dropped() {
		if fault = r.parse(r.raw); fault != "" {
			return 0, fault
		}
		started = c.StartNew(r.labels, 1)
	}
	if started {
		c.Sample(protoparser.Lower(timestamp, p.trimMs), value)
	}
	return 1, ""
}

// parse takes metric and tags apart and returns what is wrong with them, or nothing.
func (r *row) parse(raw []byte) (fault string) {
	word, rest := protoparser.CutWord(raw)
	r.labels = append(r.labels[:0], model.Label{Name: model.MetricNameLabel, Value: bytesutil.String(word)})
	for len(rest) > 0 {
		word, rest = protoparser.CutWord(rest)
		key, value, hasValue := bytes.Cut(word, []byte{'='})
		if !hasValue || len(key) == 0 {
			return "a tag is not of the form name=value"
		}
		r.labels = append(r.labels, model.Label{Name: bytesutil.String(key), Value: bytesutil.String(value)})
	}
	return ""
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
	fault := r.parse(raw)
	invariants.Check(fault == "", "labels of a known series: %s", fault)
	use(r.labels)
}
