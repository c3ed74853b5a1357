package datanode

import (
	"container/list"
	"sync"
)

// tableCache keeps the checksum tables of records that were read lately, up to a number of bytes. Tables are named by
// segment, generation and page, so a recycled segment never meets an old table.
type tableCache struct {
	maxBytes int

	mu    sync.Mutex
	bytes int
	order *list.List // of *table, the latest first
	found map[tableName]*list.Element
}

type tableName struct{ segment, generation, page uint32 }

type table struct {
	name tableName
	crcs []uint32
}

const tableOverhead = 160 // bytes of bookkeeping per table

func (t *table) bytes() int { return tableOverhead + 4*len(t.crcs) }

func newTableCache(maxBytes int) *tableCache {
	return &tableCache{maxBytes: maxBytes, order: list.New(), found: map[tableName]*list.Element{}}
}

func (c *tableCache) get(n tableName) []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.found[n]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*table).crcs
}

func (c *tableCache) put(n tableName, crcs []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found[n] != nil {
		return
	}
	t := &table{n, crcs}
	c.found[n] = c.order.PushFront(t)
	c.bytes += t.bytes()
	for c.bytes > c.maxBytes {
		last := c.order.Back()
		t := c.order.Remove(last).(*table)
		delete(c.found, t.name)
		c.bytes -= t.bytes()
	}
}
