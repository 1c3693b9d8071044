package index

import (
	"runtime/debug"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
)

// EachTenant calls yield with each tenant and the ids of series of it, deleted ones included, until it returns an error. A tenant may
// come several times, with other series each time. The set is valid until yield returns.
func (ix *Index) EachTenant(yield func(t model.TenantID, ids *roaring.Bitmap) error) (err error) {
	defer ix.guard(debug.SetPanicOnFault(true), &err)
	st := ix.acquire()
	defer ix.release(st)
	st.heads(func(h *head) bool {
		for _, t := range h.appendTenants(nil) {
			var all idSet
			if src, ok := h.tenant(t); ok {
				err = src.addAll(&all)
			}
			if err == nil {
				err = yield(t, all.take())
			}
			if err != nil {
				return false
			}
		}
		return true
	})
	for _, s := range st.segments {
		for i := uint64(0); i < s.footer.tenantCount && err == nil; i++ {
			t := s.tenantAt(i)
			var ids *roaring.Bitmap
			if ids, err = s.bitmap(t.all[0], t.all[1]); err == nil {
				err = yield(t.id, ids)
			}
		}
	}
	return err
}
