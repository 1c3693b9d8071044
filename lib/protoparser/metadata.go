package protoparser

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/model"
)

const (
	// What was sent within this time is not sent again.
	metadataInterval = time.Minute
	maxMetadataSeen  = 1 << 17
	// A list is handed on when it has this many items.
	maxMetadataBatch = 1000
)

// metadataSeen remembers hashes of the descriptions which were handed on of late.
type metadataSeen struct {
	now  func() time.Time
	seed maphash.Seed

	mu struct {
		sync.Mutex
		hashes map[uint64]struct{}
		until  time.Time // then they are forgotten
	}
}

func newMetadataSeen() *metadataSeen {
	s := &metadataSeen{now: time.Now, seed: maphash.MakeSeed()}
	s.mu.hashes = map[uint64]struct{}{}
	return s
}

func (s *metadataSeen) hash(m *model.Metadata) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	var buf [model.TenantSize + 1]byte
	_, _ = h.Write(append(m.Tenant.AppendTo(buf[:0]), byte(m.Type))) // fails never
	for _, text := range [...]string{m.Metric, m.Unit, m.Help} {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// add reports whether the description is new.
func (s *metadataSeen) add(m *model.Metadata) bool {
	hash := s.hash(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.After(s.mu.until) || len(s.mu.hashes) >= maxMetadataSeen {
		clear(s.mu.hashes)
		s.mu.until = now.Add(metadataInterval)
	}
	if _, known := s.mu.hashes[hash]; known {
		return false
	}
	s.mu.hashes[hash] = struct{}{}
	return true
}

// forget has the descriptions sent again.
func (s *metadataSeen) forget(list []model.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		delete(s.mu.hashes, s.hash(&list[i]))
	}
}

// Metadata gathers what a request says of metrics. A request uses it from one goroutine, and calls Flush in the end.
type Metadata struct {
	intake *Intake
	req    *Request
	list   []model.Metadata
}

// Metadata returns a place for what the request says of metrics, whose field Metadata is set.
func (in *Intake) Metadata(req *Request) *Metadata { return &Metadata{intake: in, req: req} }

// Add takes one description, whose texts are copied.
func (m *Metadata) Add(metric string, t model.MetricType, unit, help string) {
	if t.String() == model.TypeUnknown.String() {
		t = model.TypeUnknown // numbers there are none of
	}
	if m.intake.config.PromNaming {
		metric = promName(metric, true)
	}
	x := model.Metadata{Tenant: m.req.Tenant, Metric: metric, Type: t, Unit: unit, Help: help}
	most := limit(m.intake.config.MaxLabelValueLen)
	if len(metric) > most || len(unit) > most || len(help) > most {
		m.intake.Ignore(TooLongMetadata, 1)
		return
	}
	if metric == "" || !m.intake.seen.add(&x) {
		return
	}
	x.Metric, x.Unit, x.Help = strings.Clone(metric), strings.Clone(unit), strings.Clone(help)
	if m.list = append(m.list, x); len(m.list) >= maxMetadataBatch {
		m.Flush()
	}
}

// Flush hands on what was taken. A failure is counted and concerns nobody else: descriptions come again.
func (m *Metadata) Flush() {
	if len(m.list) == 0 {
		return
	}
	if err := m.req.Metadata(m.list); err != nil {
		m.intake.seen.forget(m.list)
		m.intake.metadataDropped.Add(len(m.list))
		m.intake.Warnf("cannot store metadata of %d metrics; it is dropped, samples are not affected: %s", len(m.list), err)
	}
	m.list = m.list[:0]
}
