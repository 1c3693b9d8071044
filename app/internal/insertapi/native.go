package insertapi

import (
	"context"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tenantstat"
)

// Native takes what an insert node of a higher level has collected, and does to it what the API does to what senders bring: limits on labels
// and changes of them, counting. The limits of tenants are those of the node which the senders talk to, for it alone can tell them.
type Native struct {
	api       *API
	rows      *metrics.Counter
	perInsert *metrics.Histogram
	tenants   *tenantstat.Counters[metrics.Counter]
	exemplars *protoparser.ExemplarCounters
}

var (
	_ storageapi.Ingester       = (*Native)(nil)
	_ storageapi.MetadataWriter = (*Native)(nil)
	_ storageapi.ExemplarWriter = (*Native)(nil)
	_ storageapi.StartWriter    = (*Native)(nil)
)

// NewNative returns a Native before the Ingester of the API, with its metrics registered.
func NewNative(a *API, set *metrics.Set) *Native {
	const kind = `type="clusternative"`
	return &Native{
		api:       a,
		rows:      set.Counter("vm_rows_inserted_total{" + kind + "}"),
		perInsert: set.Histogram("vm_rows_per_insert{" + kind + "}"),
		tenants:   tenantstat.New(set.Counter, "vm_tenant_inserted_rows_total", kind),
		exemplars: a.intake.NewExemplarCounters("clusternative"),
	}
}

// Ingest stores the batch but for what the limits do not allow. A series which has passed them once costs a look at a table, by its number.
func (n *Native) Ingest(ctx context.Context, b *model.Batch) error {
	n.perInsert.Update(float64(b.Rows()))
	if n.api.intake.Rewrites() {
		return n.rewrite(ctx, b)
	}
	table := &tenantTable{budget: n.api.budget, detached: true}
	if space := b.Space(); space != nil {
		table = space.Attach(n, func() model.Attachment { return &tenantTable{budget: n.api.budget} }).(*tenantTable)
	}
	check := checker{api: n.api, batch: b}
	tenants, refused := table.admit(b, check.admits, nil)
	check.end()
	if len(refused) == b.Len() {
		return ctx.Err()
	}
	if len(refused) > 0 {
		b = without(b, refused)
	}
	return n.store(ctx, b, tenants)
}

// store hands a batch on, and counts its rows by tenant.
func (n *Native) store(ctx context.Context, b *model.Batch, tenants []tenantRows) error {
	if err := n.api.ingester.Ingest(ctx, b); err != nil {
		return err
	}
	n.rows.Add(b.Rows())
	for _, x := range tenants {
		n.tenants.Of(x.tenant).Add(x.rows)
	}
	return nil
}

// without returns a copy of the batch without some of its series.
func without(b *model.Batch, refused []int) *model.Batch {
	rest := make([]uint32, 0, b.Len()-len(refused))
	for i := range b.Len() {
		if len(refused) > 0 && refused[0] == i {
			refused = refused[1:]
			continue
		}
		rest = append(rest, uint32(i))
	}
	var out model.Batch
	out.AppendSome(b, rest)
	return &out
}

// checker applies the limits to series of a batch.
type checker struct {
	api       *API
	batch     *model.Batch
	collector *protoparser.Collector // nil until it is needed
	labels    []model.Label
}

func (c *checker) admits(i int) bool {
	if c.collector == nil {
		c.collector = c.api.intake.Collect(&protoparser.Request{})
	}
	var err error
	_, c.labels, err = model.ParseSeriesKey(c.labels[:0], c.batch.Key(i))
	return err == nil && c.collector.Admits(c.labels, c.batch.RowsOf(i))
}

func (c *checker) end() {
	if c.collector != nil {
		c.collector.Release()
	}
}

// rewrite has the series collected as those of senders are, so that their labels are changed in the same way.
func (n *Native) rewrite(ctx context.Context, b *model.Batch) error {
	req := protoparser.Request{Sink: func(changed *model.Batch) error {
		return n.store(ctx, changed, (&tenantTable{detached: true}).tenantsOf(changed, nil))
	}}
	c := n.api.intake.Collect(&req)
	defer c.Release()
	var labels []model.Label
	var histograms []model.Histogram
	for i := range b.Len() {
		var err error
		if req.Tenant, labels, err = model.ParseSeriesKey(labels[:0], b.Key(i)); err != nil {
			return err
		}
		if !c.StartSeries(labels, b.RowsOf(i)) {
			continue
		}
		for _, s := range b.Samples(i) {
			c.Sample(s.Timestamp, s.Value)
		}
		if b.HistogramRows() > 0 {
			histograms = b.AppendHistograms(histograms[:0], i)
		}
		for _, h := range histograms {
			c.Histogram(h.Timestamp, h.Payload)
		}
	}
	_, err := c.Finish()
	return err
}

// AddMetadata stores the descriptions, unless nobody keeps any.
func (n *Native) AddMetadata(ctx context.Context, list []model.Metadata) error {
	a := n.api
	switch {
	case a.metadata == nil:
		return nil
	case !a.intake.Rewrites():
		return a.metadata.AddMetadata(ctx, list)
	}
	req := protoparser.Request{Metadata: func(changed []model.Metadata) error { return a.metadata.AddMetadata(ctx, changed) }}
	m := a.intake.Metadata(&req)
	for i := range list {
		x := &list[i]
		req.Tenant = x.Tenant
		m.Add(x.Metric, x.Type, x.Unit, x.Help)
	}
	m.Flush()
	return nil
}

// AddExemplars stores the exemplars, with the labels of their series checked and changed as those of samples are, unless nobody keeps any.
func (n *Native) AddExemplars(ctx context.Context, list []model.Exemplar) (err error) {
	a := n.api
	if a.exemplars == nil {
		return nil
	}
	req := protoparser.Request{Exemplars: func(changed []model.Exemplar) error {
		failed := a.exemplars.AddExemplars(ctx, changed)
		if failed != nil {
			err = failed // the sender is told, and sends them again or elsewhere
		}
		return failed
	}}
	x := a.intake.Exemplars(&req, n.exemplars)
	var labels []model.Label
	for i := range list {
		e := &list[i]
		var parseErr error
		if req.Tenant, labels, parseErr = model.ParseSeriesKey(labels[:0], e.Series); parseErr != nil {
			return parseErr
		}
		if x.Series(labels) {
			x.AddEncoded(e.Labels, e.Timestamp, e.Value)
		}
	}
	x.Flush()
	return err
}

// AddStarts stores when series began, with their labels checked and changed as those of samples are, unless nobody wants to know.
func (n *Native) AddStarts(ctx context.Context, list []model.Start) error {
	a := n.api
	if a.starts == nil {
		return nil
	}
	var req protoparser.Request
	keys := a.intake.SeriesKeys(&req)
	changed := make([]model.Start, 0, len(list))
	var labels []model.Label
	for i := range list {
		var err error
		if req.Tenant, labels, err = model.ParseSeriesKey(labels[:0], list[i].Series); err != nil {
			return err
		}
		if key, ok := keys.Of(labels); ok {
			changed = append(changed, model.Start{Series: key, Timestamp: list[i].Timestamp})
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return a.starts.AddStarts(ctx, changed)
}
