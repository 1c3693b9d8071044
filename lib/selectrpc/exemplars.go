package selectrpc

import (
	"context"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.ExemplarReader = (*Client)(nil)

// exemplars answers with exemplars one after the other. Each frame begins with a series.
func (c *call) exemplars(ctx context.Context, out *transport.Responder) (cov storageapi.Coverage, err error) {
	reader := c.server.opts.Exemplars
	if reader == nil {
		return cov, errkind.New(errkind.Unsupported, "cannot %s: this node does not offer it", c.query.method)
	}
	list, err := reader.Exemplars(ctx, &storageapi.ExemplarQuery{Search: c.query.search, Limit: c.query.limit})
	if err != nil {
		return cov, err
	}
	w := itemWriter{out: out}
	for i := range list.Items {
		var previous *model.Exemplar
		if len(w.buf) > 0 {
			previous = &list.Items[i-1]
		}
		w.buf = list.Items[i].AppendTo(w.buf, previous)
		w.sendFull()
	}
	w.flush()
	return list.Coverage, w.err
}

// Exemplars asks the node for exemplars.
func (c *Client) Exemplars(ctx context.Context, q *storageapi.ExemplarQuery) (out storageapi.ExemplarList, err error) {
	out.Coverage, err = c.call(ctx, &query{method: methodExemplars, search: q.Search, limit: q.Limit}, func(frame []byte) error {
		out.Items, err = model.UnmarshalExemplars(out.Items, slices.Clone(frame))
		return err
	})
	if err != nil {
		return storageapi.ExemplarList{}, err
	}
	return out, nil
}
