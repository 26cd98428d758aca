package criu

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const pageZero = 1 << 0 // as at CRIU: nothing but zeros, and not in the page image

func pages(addr, n uint64, flags uint32) *pagemap.PagemapEntry {
	return &pagemap.PagemapEntry{Vaddr: &addr, CompatNrPages: new(uint32), NrPages: &n, Flags: &flags}
}

func mapping(start, end, advice uint64) *vma.VmaEntry {
	return &vma.VmaEntry{
		Start: &start, End: &end, Madv: &advice,
		Pgoff: new(uint64), Shmid: new(uint64), Prot: new(uint32), Flags: new(uint32), Status: new(uint32), Fd: new(int64),
	}
}

func writeNew(t *testing.T, path string, img *crit.CriuImage) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, writeImage(path, img))
}

func writePagemap(t *testing.T, dir string, id uint32, entries ...*pagemap.PagemapEntry) {
	t.Helper()
	img := &crit.CriuImage{Magic: "PAGEMAP", EntryType: &pagemap.PagemapEntry{}}
	img.Entries = append(img.Entries, &crit.CriuEntry{Message: &pagemap.PagemapHead{PagesId: &id}})
	for _, e := range entries {
		img.Entries = append(img.Entries, &crit.CriuEntry{Message: e})
	}
	writeNew(t, filepath.Join(dir, "pagemap-7.img"), img)
}

func writeMemory(t *testing.T, dir string, mappings ...*vma.VmaEntry) {
	t.Helper()
	memory := &mm.MmEntry{
		MmStartCode: new(uint64), MmEndCode: new(uint64), MmStartData: new(uint64), MmEndData: new(uint64),
		MmStartStack: new(uint64), MmStartBrk: new(uint64), MmBrk: new(uint64), MmArgStart: new(uint64), MmArgEnd: new(uint64),
		MmEnvStart: new(uint64), MmEnvEnd: new(uint64), ExeFileId: new(uint32), Vmas: mappings,
	}
	writeNew(t, filepath.Join(dir, "mm-7.img"), &crit.CriuImage{
		Magic: "MM", EntryType: &mm.MmEntry{}, Entries: []*crit.CriuEntry{{Message: memory}},
	})
}

func TestLazyRuns(t *testing.T) {
	const (
		page = pageSize
		lazy = pageLazy | pagePresent
	)
	dir := t.TempDir()
	old := pages(80*page, 0, lazy) // of a CRIU that did not yet count in 64 bits
	old.CompatNrPages = proto.Uint32(2)
	writePagemap(t, dir, 3,
		pages(10*page, 4, pagePresent),     // restored by CRIU
		pages(14*page, 2, lazy),            // in the same mapping
		pages(20*page, 5, pageZero),        // not in the image
		pages(30*page, 6, lazy),            // over three mappings
		pages(36*page, 1, pageLazy|1<<0),   // not in the image either
		pages(60*page, 1, lazy),            // after mappings without any
		pages(61*page, 1, lazy),            // in the same
		pages(70*page, 1<<32, pagePresent), // more than fits into the old field
		old,
	)
	writeMemory(t, dir,
		mapping(8*page, 18*page, 0),
		mapping(20*page, 25*page, 0),
		mapping(28*page, 31*page, 1<<unix.MADV_WIPEONFORK|1<<unix.MADV_HUGEPAGE),
		mapping(31*page, 33*page, 1<<unix.MADV_HUGEPAGE),
		mapping(33*page, 40*page, 1<<unix.MADV_DONTFORK),
		mapping(41*page, 42*page, 0),
		mapping(50*page, 51*page, 0),
		mapping(60*page, 62*page, 0),
		mapping(80*page, 82*page, 0),
	)
	runs, err := LazyRuns(dir, 7)
	require.NoError(t, err)
	const file = "pages-3.img"
	require.Equal(t, []LazyRun{
		{14 * page, 16 * page, file, 4 * page, false},
		{30 * page, 31 * page, file, 6 * page, true},
		{31 * page, 33 * page, file, 7 * page, false},
		{33 * page, 36 * page, file, 9 * page, true},
		{60 * page, 61 * page, file, 12 * page, false},
		{61 * page, 62 * page, file, 13 * page, false},
		{80 * page, 82 * page, file, (14 + 1<<32) * page, false},
	}, runs)

	// What is not lazy, CRIU reads itself; and of shared memory everything.
	shared, err := os.ReadFile(filepath.Join(dir, "pagemap-7.img"))
	require.NoError(t, err)
	eager, err := EagerPages(dir)
	require.NoError(t, err)
	require.Equal(t, []PageRange{{file, 0, 4 * page}, {file, 14 * page, 1 << 32 * page}}, eager)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pagemap-shmem-8.img"), shared, 0o600))
	eager, err = EagerPages(dir)
	require.NoError(t, err)
	require.Len(t, eager, 2+7)
}

func TestLazyRunsOfUnfitImages(t *testing.T) {
	const lazy = pageLazy | pagePresent
	runs := func(dir string) error {
		_, err := LazyRuns(dir, 7)
		return err
	}
	t.Run("absent", func(t *testing.T) {
		dir := t.TempDir()
		require.ErrorIs(t, runs(dir), os.ErrNotExist)
		require.ErrorContains(t, runs(dir), "lazy pages of process 7")
		writePagemap(t, dir, 1, pages(0x1000, 1, lazy))
		require.ErrorIs(t, runs(dir), os.ErrNotExist)
	})
	t.Run("nothing is lazy", func(t *testing.T) {
		dir := t.TempDir()
		writePagemap(t, dir, 1, pages(0x1000, 1, pagePresent))
		writeMemory(t, dir)
		require.NoError(t, runs(dir))
	})
	for name, mappings := range map[string][]*vma.VmaEntry{
		"without mapping":           {mapping(0x1000, 0x2000, 0)},
		"mapping ends before":       {mapping(0x4000, 0x5000, 0), mapping(0x8000, 0x9000, 0)},
		"mapping begins in between": {mapping(0x5000, 0x8000, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writePagemap(t, dir, 1, pages(0x4000, 2, lazy))
			writeMemory(t, dir, mappings...)
			require.ErrorContains(t, runs(dir), "where mm-7.img has no mapping")
		})
	}
	t.Run("cut off", func(t *testing.T) {
		dir := t.TempDir()
		writePagemap(t, dir, 1, pages(0x4000, 2, lazy))
		writeMemory(t, dir, mapping(0x4000, 0x6000, 0))
		require.NoError(t, runs(dir))
		for _, name := range []string{"pagemap-7.img", "mm-7.img"} {
			whole, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), whole[:len(whole)-3], 0o600))
			require.Error(t, runs(dir), name)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), whole, 0o600))
		}
	})
}
