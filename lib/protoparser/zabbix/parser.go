package zabbix

import (
	"flag"
	"fmt"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// Format is the value of the type label of this format's metrics.
const Format = "zabbixconnector"

// Config holds the flags of the format.
type Config struct {
	MaxLineLen   flagvalue.Bytes
	GroupsValue  string
	EmptyValue   string
	TagSeparator string
}

// RegisterFlags registers the flags and sets the defaults.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.MaxLineLen = 32 << 20
	fs.Var(&c.MaxLineLen, "zabbixconnector.maxLineLen", "The largest length of a line in bytes at /zabbixconnector/api/v1/history; longer lines are skipped and counted in vm_rows_invalid_total")
	fs.StringVar(&c.GroupsValue, "zabbixconnector.addGroupsValue", "", "Give series of Zabbix connectors a label group_<name> with this value for each group of the host; empty: none")
	fs.StringVar(&c.EmptyValue, "zabbixconnector.addEmptyTagsValue", "", "The value of labels of tags without a value in items of Zabbix connectors; empty: such tags are left out")
	fs.StringVar(&c.TagSeparator, "zabbixconnector.addDuplicateTagsSeparator", "", "Join the values of tags with the same name in items of Zabbix connectors, with this between them; empty: the last one counts")
}

// Parser reads bodies of lines. It is safe for concurrent use.
type Parser struct {
	intake   *protoparser.Intake
	counters *protoparser.Counters
	config   Config
	items    protoparser.Pool[item]
}

// New returns a parser which counts in the intake's metrics.
func New(in *protoparser.Intake, c Config) *Parser {
	return &Parser{intake: in, counters: in.NewCounters(Format), config: c}
}

// Parse stores the samples of all lines which can be parsed, and counts the others. Errors are of kind BadRequest when the body cannot be
// read or decompressed, or come from the sink.
func (p *Parser) Parse(req *protoparser.Request) (protoparser.Result, error) {
	p.counters.ReadCalls.Inc()
	x := p.items.Get()
	defer p.putItem(x)
	return p.intake.StoreLines(req, &protoparser.LineOptions{
		Format: p, Counters: p.counters, MaxLen: int(p.config.MaxLineLen), LimitName: "-zabbixconnector.maxLineLen",
		Store: func(c *protoparser.Collector, line []byte) (samples int, fault string) { return p.store(c, x, line) },
	})
}

func (p *Parser) store(c *protoparser.Collector, x *item, line []byte) (samples int, fault string) {
	if err := protoparser.ValidateJSON(line); err != nil {
		return 0, fmt.Sprintf("it is not JSON: %.200s", err)
	}
	if fault = x.split(line); fault != "" {
		return 0, fault
	}
	started := c.StartRaw(x.raw, 0, 1)
	if !started && !c.Dropped() {
		if fault = x.parseLabels(x.raw, &p.config); fault != "" {
			return 0, fault
		}
		started = c.StartNew(x.labels, 1)
	}
	if started {
		c.Sample(x.timestamp, x.value)
	}
	return 1, ""
}

// maxPooled bounds what is kept of items.
const maxPooled = 64 << 10

func (p *Parser) putItem(x *item) {
	if cap(x.raw) > maxPooled || cap(x.labels) > maxPooled {
		return
	}
	clear(x.labels[:cap(x.labels)])
	p.items.Put(x)
}

// Name implements protoparser.Format.
func (p *Parser) Name() string { return Format }

// UseLabels implements protoparser.Format.
func (p *Parser) UseLabels(raw []byte, use func([]model.Label)) {
	x := p.items.Get()
	defer p.putItem(x)
	x.parseLabels(raw, &p.config)
	use(x.labels)
}

// item is one item value.
type item struct {
	raw       []byte // an array of name, host, groups and item_tags as they came
	timestamp int64
	value     float64
	labels    []model.Label
}

// split finds the members of a line. It returns what is wrong with them, or nothing; labels are not looked at.
func (x *item) split(line []byte) (fault string) {
	s := protoparser.NewJSONScanner(line)
	if s.Next() != '{' {
		return "it is no object"
	}
	var name, host, groups, tags, clock, ns, value, kind []byte
	for s.Enter(); s.More('}'); {
		key, member := s.Member()
		switch string(key) {
		case `"name"`:
			name = member
		case `"host"`:
			host = member
		case `"groups"`:
			groups = member
		case `"item_tags"`:
			tags = member
		case `"clock"`:
			clock = member
		case `"ns"`:
			ns = member
		case `"value"`:
			value = member
		case `"type"`:
			kind = member
		}
	}
	var ok bool
	if x.timestamp, ok = timestamp(clock, ns); !ok {
		return `"clock" and "ns" are no time`
	}
	if k := string(kind); k != "0" && k != "3" {
		return fmt.Sprintf(`the type %.20q is neither 0, float, nor 3, unsigned; choose these as type of information of the connector`, k)
	}
	if x.value, ok = protoparser.ParseFloat(protoparser.UnquoteNumber(value)); !ok {
		return `"value" is not a number`
	}
	x.raw = append(x.raw[:0], '[')
	for i, part := range [...][]byte{name, host, groups, tags} {
		if i > 0 {
			x.raw = append(x.raw, ',')
		}
		if len(part) == 0 {
			part = []byte("null")
		}
		x.raw = append(x.raw, part...)
	}
	x.raw = append(x.raw, ']')
	return ""
}

// timestamp returns a time in seconds and nanoseconds as one in milliseconds.
func timestamp(clock, ns []byte) (ms int64, ok bool) {
	ms, ok = protoparser.Seconds(clock)
	if !ok || len(ns) == 0 {
		return ms, ok
	}
	n, ok := protoparser.ParseInt(ns)
	return ms + n/1e6, ok && 0 <= n && n < 1e9
}

// parseLabels reads what split left as it is. It returns what is wrong with it, or nothing.
func (x *item) parseLabels(raw []byte, config *Config) (fault string) {
	s := protoparser.NewJSONScanner(raw)
	next := func() []byte {
		s.More(']')
		return s.Value()
	}
	s.Enter()
	name, ok := protoparser.JSONText(next())
	if !ok {
		return `there is no text "name"`
	}
	x.labels = x.labels[:0]
	if fault = x.addHost(next()); fault != "" {
		return fault
	}
	groups := next()
	if config.GroupsValue != "" {
		fault = eachOf(groups, "groups", func(group []byte) (fault string) {
			text, ok := protoparser.JSONText(group)
			if !ok {
				return "a group is not a text"
			}
			x.add("group_"+string(text), config.GroupsValue)
			return ""
		})
	}
	if fault == "" {
		fault = eachOf(next(), "item_tags", func(tag []byte) string { return x.addTag(tag, config.EmptyValue) })
	}
	if fault == "" && len(x.labels) > protoparser.MaxLabels {
		fault = protoparser.TooManyLabelsFault()
	}
	x.labels = protoparser.MergeNames(x.labels, config.TagSeparator)
	x.add(model.MetricNameLabel, bytesutil.String(name))
	return fault
}

func (x *item) add(name, value string) {
	x.labels = append(x.labels, model.Label{Name: name, Value: value})
}

func (x *item) addHost(value []byte) (fault string) {
	host, name, fault := twoTexts(value, `"host"`, `"name"`)
	if fault == "" && host == "" {
		fault = `there is no text "host" in an object "host"`
	}
	x.add("host", host)
	x.add("hostname", name)
	return fault
}

func (x *item) addTag(value []byte, empty string) (fault string) {
	name, text, fault := twoTexts(value, `"tag"`, `"value"`)
	if text == "" {
		text = empty
	}
	if text != "" {
		x.add("tag_"+name, text)
	}
	return fault
}

// twoTexts returns the texts with the given keys, which are in quotes, of an object.
func twoTexts(object []byte, keyA, keyB string) (a, b, fault string) {
	s := protoparser.NewJSONScanner(object)
	if s.Next() != '{' {
		return "", "", fmt.Sprintf("there is no object with %s and %s", keyA, keyB)
	}
	for s.Enter(); s.More('}'); {
		key, value := s.Member()
		text, ok := protoparser.JSONText(value)
		switch {
		case string(key) == keyA && ok:
			a = bytesutil.String(text)
		case string(key) == keyB && ok:
			b = bytesutil.String(text)
		}
	}
	return a, b, ""
}

// eachOf calls use with the elements of an array, of which there may be none, up to the first fault.
func eachOf(array []byte, name string, use func(value []byte) (fault string)) (fault string) {
	if string(array) == "null" {
		return ""
	}
	s := protoparser.NewJSONScanner(array)
	if s.Next() != '[' {
		return fmt.Sprintf("%q is no array", name)
	}
	for s.Enter(); s.More(']') && fault == ""; {
		fault = use(s.Value())
	}
	return fault
}
