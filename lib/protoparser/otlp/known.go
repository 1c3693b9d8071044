package otlp

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"sync"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// known recognises the series of a request in protobuf by hashes of the bytes which say what they are, so that attributes are read of new
// series only. It is part of a reader of protobuf. A series is a path of messages, of resource, scope, metric and point, and a part of the
// point; what identifies it in all requests is made of the hashes of what is on that path. The raw labels of a series are the places of these
// messages in the body, of which labels are made anew when somebody asks.
type known struct {
	seeds  *seeds
	bodies [][]byte // requests of the envelope, or the one
	serial uint64   // of what was read with this reader

	scopes  identity // of the resource
	metrics identity // of the scope
	points  identity // of the metric
	series  identity // of the point

	resourceAt, scopeAt, metricAt []byte
	attributes                    []byte // fields of the point, one after the other
	scattered                     bool   // they are copied to gathered, since other fields are between them
	gathered                      []byte
	raw                           []byte
	rawMetric                     int // how much of it is that of the metric; 0: nothing yet
	describers                    sync.Pool
}

// seeds are secret, so that neither chance nor an attacker makes two series alike.
type seeds struct {
	bytes  [2]maphash.Seed
	low    [2]uint64
	high   [2]uint64
	begin  [2]uint64
	second [2]uint64
}

func newSeeds() *seeds {
	s := &seeds{bytes: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	for i, list := range []*[2]uint64{&s.low, &s.high, &s.begin, &s.second} {
		for half := range list {
			list[half] = maphash.Bytes(s.bytes[half], []byte{byte(i)})
		}
	}
	return s
}

// identity is 128 bits, of two seeds. The second half is seldom needed, so that of points and below is made when it is asked for.
type identity struct {
	half  [2]uint64
	seeds *seeds
}

// mix makes a number of two of which at least one is secret: the product that NH sums (Black et al., UMAC, 1999).
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// add goes on with a message that is part of what is identified. The order counts.
func (id *identity) add(message []byte) {
	for half := range id.half {
		id.half[half] = mix(id.half[half]+id.seeds.second[half], maphash.Bytes(id.seeds.bytes[half], message))
	}
}

// begin is called before each request that is read.
func (k *known) begin(body []byte) {
	k.bodies = append(k.bodies, body)
}

// end forgets the requests.
func (k *known) end() {
	clear(k.bodies)
	k.bodies = k.bodies[:0]
	k.resourceAt, k.scopeAt, k.metricAt, k.attributes = nil, nil, nil, nil
	k.serial++
}

func (k *known) resource(b []byte) {
	k.resourceAt, k.scopes = b, identity{k.seeds.begin, k.seeds}
}

func (k *known) scope(b []byte) {
	k.scopeAt, k.metrics = b, k.scopes
}

func (k *known) metric(b []byte, m *metric) {
	k.metricAt, k.points, k.rawMetric = b, k.metrics, 0
	kind := [2]byte{byte(m.kind)}
	if m.monotonic {
		kind[1] = 1
	}
	k.points.add(kind[:]) // ends the scope: what follows are names
	k.points.add(bytesutil.Bytes(m.name))
	k.points.add(bytesutil.Bytes(m.unit))
}

func (k *known) point(b []byte) {
	if k.rawMetric == 0 {
		k.raw = binary.AppendUvarint(k.raw[:0], uint64(len(k.bodies)-1))
		for _, message := range [][]byte{k.resourceAt, k.scopeAt, k.metricAt} {
			k.raw = k.appendPlace(k.raw, message)
		}
		k.rawMetric = len(k.raw)
	}
	k.raw = k.appendPlace(k.raw[:k.rawMetric], b)
	k.attributes, k.scattered = nil, false
	k.series.seeds = nil // not made yet
}

// appendPlace appends where a message is in the body. Its slice goes to the end of the body, as all of those do that are cut from it.
func (k *known) appendPlace(dst, message []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(cap(k.bodies[len(k.bodies)-1])-cap(message)))
	return binary.AppendUvarint(dst, uint64(len(message)))
}

// attribute notes a field of the point with an attribute.
func (k *known) attribute(field []byte) {
	switch n := len(k.attributes); {
	case n == 0:
		k.attributes = field
	case !k.scattered && cap(k.attributes)-n == cap(field):
		k.attributes = k.attributes[:n+len(field)]
	default:
		if !k.scattered {
			k.gathered, k.scattered = append(k.gathered[:0], k.attributes...), true
		}
		k.gathered = append(k.gathered, field...)
		k.attributes = k.gathered
	}
}

// identify returns half of the identity of a series of the point.
func (k *known) identify(half int, s part) uint64 {
	if k.series.seeds == nil {
		k.series = k.points
		k.series.half[0] = mix(k.points.half[0]+k.seeds.second[0], maphash.Bytes(k.seeds.bytes[0], k.attributes))
		k.series.half[1] = 0
	}
	if half == 1 && k.series.half[1] == 0 {
		k.series.half[1] = mix(k.points.half[1]+k.seeds.second[1], maphash.Bytes(k.seeds.bytes[1], k.attributes))
	}
	point := k.series.half[half]
	if s.kind == wholeValue {
		return point
	}
	id := mix(point+uint64(s.kind), math.Float64bits(s.low)^k.seeds.low[half])
	if s.kind == rangeBucket {
		id += mix(point^k.seeds.second[half], math.Float64bits(s.high)^k.seeds.high[half])
	}
	return id
}

// rawOf returns the raw labels of a series of the point.
func (k *known) rawOf(s part) []byte {
	n := len(k.raw)
	raw := append(k.raw, byte(s.kind))
	if s.kind >= leBucket {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(s.low))
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(s.high))
	}
	k.raw = raw[:n]
	return raw
}

// place is where a message is.
type place struct{ start, size uint64 }

// describer makes labels of raw ones. It remembers what it has read last, since series of a metric follow one another.
type describer struct {
	reader                  *protobuf
	serial                  uint64
	body                    []byte
	resource, scope, metric place
	isRead                  bool
}

// Name implements protoparser.Format. It is not the name for other encodings, whose raw labels differ.
func (r *protobuf) Name() string { return Format + " protobuf" }

// UseLabels implements protoparser.Format.
func (r *protobuf) UseLabels(raw []byte, use func([]model.Label)) {
	d, ok := r.known.describers.Get().(*describer)
	if !ok {
		d = &describer{reader: &protobuf{w: &writer{config: r.w.config}, known: known{seeds: r.known.seeds}}}
	}
	err := d.describe(&r.known, raw, use)
	invariants.Check(err == nil, "labels of a known series: %v", err)
	r.known.describers.Put(d)
}

func (d *describer) describe(k *known, raw []byte, use func([]model.Label)) error {
	next := func() uint64 {
		v, n := binary.Uvarint(raw)
		raw = raw[n:]
		return v
	}
	body := k.bodies[next()]
	resource, scope, metric, at := place{next(), next()}, place{next(), next()}, place{next(), next()}, place{next(), next()}
	if !d.isRead || d.serial != k.serial || len(d.body) != len(body) || &d.body[0] != &body[0] || d.resource != resource || d.scope != scope || d.metric != metric {
		d.isRead, d.serial, d.body, d.resource, d.scope, d.metric = false, k.serial, body, resource, scope, metric
		if err := d.read(); err != nil {
			return err
		}
		d.isRead = true
	}
	s := part{kind: partKind(raw[0])}
	if s.kind >= leBucket {
		s.low, s.high = math.Float64frombits(binary.LittleEndian.Uint64(raw[1:])), math.Float64frombits(binary.LittleEndian.Uint64(raw[9:]))
	}
	r := d.reader
	p := &r.point
	p.reset()
	attributes := r.w.metric.kind.attributesField()
	err := messages(at.of(body), attributes, func(b []byte) error { return appendAttribute(&p.attributes, b) })
	if err != nil || !r.w.label(p) || !r.w.render(p, s) {
		return err
	}
	r.w.series = protoparser.AppendRawLabels(r.w.series[:0], r.w.raw)
	use(r.w.series)
	return nil
}

func (p place) of(body []byte) []byte { return body[p.start : p.start+p.size] }

// read reads the resource, the scope and the metric.
func (d *describer) read() error {
	r := d.reader
	if err := r.resource(d.resource.of(d.body)); err != nil {
		return err
	}
	if err := r.scope(d.scope.of(d.body)); err != nil {
		return err
	}
	m, _, err := readMetric(d.metric.of(d.body))
	r.w.setMetric(m)
	return err
}

// start begins a known series of the point; false when it is not known, or dropped.
func (r *protobuf) start(s part) bool {
	k, c := &r.known, r.w.c
	raw := k.rawOf(s)
	first := k.identify(0, s)
	if c.StartExpectedAs(first, raw, 0) {
		return true
	}
	return !c.Dropped() && c.StartAs([2]uint64{first, k.identify(1, s)}, raw, 0, 1)
}

// readAttributes reads the attributes of the point.
func (r *protobuf) readAttributes() error {
	return fields(r.known.attributes, func(f field) error { return appendAttribute(&r.point.attributes, f.bytes) })
}

// keptBytes bounds what is kept of scratch.
const keptBytes = 1 << 16

// isLarge reports whether odd requests have made the scratch large.
func (k *known) isLarge() bool { return cap(k.gathered)+cap(k.raw)+cap(k.bodies) > keptBytes }
