package replica

import "google.golang.org/protobuf/encoding/protowire"

// Keys calls f with the key of every change, in order; of a range with its beginning. The key is f's only until it returns.
func (b *Batch) Keys(f func(key []byte)) {
	for ops := b.ops; len(ops) > 0; {
		kind := opKind(ops[0])
		key, n := protowire.ConsumeBytes(ops[1:])
		if n < 0 {
			return // it was made here, so this cannot be
		}
		ops = ops[1+n:]
		f(key)
		if kind == opDelete {
			continue
		}
		_, n = protowire.ConsumeBytes(ops)
		if n < 0 {
			return
		}
		ops = ops[n:]
	}
}
