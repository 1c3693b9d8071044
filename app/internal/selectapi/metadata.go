package selectapi

import (
	"net/http"

	"vmcluster/lib/storageapi"
)

// metadata serves /api/v1/metadata: what senders have told of metrics.
func (a *API) metadata(w http.ResponseWriter, r *request) error {
	q := &storageapi.MetadataQuery{Tenant: r.tenant, AllTenants: r.all, Metric: r.Form.Get("metric")}
	var err error
	if q.Limit, err = intArg(r.Request, "limit", 0); err != nil {
		return err
	}
	if q.LimitPerMetric, err = intArg(r.Request, "limit_per_metric", 0); err != nil {
		return err
	}
	q.Limit, q.LimitPerMetric = max(0, q.Limit), max(0, q.LimitPerMetric)
	var list storageapi.MetadataList
	if a.o.Metadata != nil && a.o.Config.EnableMetadata {
		step := r.trace.Begin("search metadata")
		list, err = a.o.Metadata.Metadata(step.Within(r.Context()), q)
		step.End(": found %d descriptions", len(list.Items))
	}
	if err != nil {
		return err
	}
	if list.Coverage.Partial && a.denyPartial(r) {
		return partialError(list.Coverage)
	}
	return a.writeList(w, r, list.Coverage.Partial, appendMetadata(nil, &list))
}

// appendMetadata appends an object with the descriptions by metric.
func appendMetadata(b []byte, list *storageapi.MetadataList) []byte {
	b = append(b, '{')
	for i := range list.Items {
		m := &list.Items[i]
		switch {
		case i > 0 && list.Items[i-1].Metric == m.Metric:
			b = append(b, ',')
		default:
			if i > 0 {
				b = append(b, ']', ',')
			}
			b = append(appendJSONString(b, m.Metric), ':', '[')
		}
		b = append(b, `{"type":`...)
		b = appendJSONString(b, m.Type.String())
		if m.Unit != "" {
			b = append(b, `,"unit":`...)
			b = appendJSONString(b, m.Unit)
		}
		b = append(b, `,"help":`...)
		b = append(appendJSONString(b, m.Help), '}')
	}
	if len(list.Items) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}
