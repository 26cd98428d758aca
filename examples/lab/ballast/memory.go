package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"syscall"
)

const (
	pageSize = 4 << 10
	// chunkSize is what an answer needs in one piece; of every tenth piece it needs all, and of the others nothing.
	chunkSize = 64 << 10
	oneIn     = 10
)

const text = "An app's memory is mostly what it has read from elsewhere, over and over again: code, names, text. "

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // processors have an instruction for it

// memory is outside of Go's heap, whose collector would have a say otherwise.
type memory struct {
	bytes       []byte
	needed, all uint32 // checksums of what was filled in
}

// reserve takes address space that can't be used yet.
func reserve(size int) error {
	if _, err := syscall.Mmap(-1, 0, size, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON); err != nil {
		return fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	return nil
}

// guard makes and removes a guard region over the last page, which discards it, and says what the kernel says and what is there then.
func (m *memory) guard() string {
	const install, remove = 102, 103
	last := m.bytes[len(m.bytes)-pageSize:]
	for _, advice := range []int{install, remove} {
		if err := syscall.Madvise(last, advice); err != nil {
			return err.Error()
		}
	}
	if bytes.Equal(last, make([]byte, pageSize)) {
		return "discarded"
	}
	return "not discarded"
}

// fill touches every page.
func fill(size int) (*memory, error) {
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	m := &memory{bytes: b}
	for at := 0; at < size; at += pageSize {
		fillPage(b[at:at+pageSize], at/pageSize)
	}
	m.needed, m.all = m.sum(needed), m.sum(everything)
	return m, nil
}

// fillPage writes what is neither empty nor impossible to compress, and not the same as any other page: a quarter of
// noise, and text.
func fillPage(page []byte, number int) {
	noise, words := page[:len(page)/4], page[len(page)/4:]
	random := rand.NewPCG(uint64(number), 0) // the same in every boot
	for ; len(noise) > 0; noise = noise[8:] {
		binary.LittleEndian.PutUint64(noise, random.Uint64())
	}
	for n := copy(words, text[number%len(text):]); n < len(words); {
		n += copy(words[n:], text)
	}
}

func needed(chunk int) bool { return chunk%oneIn == 0 }
func everything(int) bool   { return true }

// sum reads the chunks that which names.
func (m *memory) sum(which func(chunk int) bool) uint32 {
	var sum uint32
	for at := 0; at < len(m.bytes); at += chunkSize {
		if which(at / chunkSize) {
			sum = crc32.Update(sum, castagnoli, m.bytes[at:min(at+chunkSize, len(m.bytes))])
		}
	}
	return sum
}
