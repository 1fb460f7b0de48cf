"""What every file system promises the stores, as far as it can be seen without a power cut."""

import pytest


def write(files, path, data=b"data"):
    file = files.create(path)
    file.write(data)
    file.sync()
    file.close()


def names(files, folder):
    return sorted(info.path.name for info in files.list(folder))


def test_what_was_written_is_read(files, folder):
    file = files.create(folder / "a")
    file.write(b"one, ")
    file.write(b"two")
    assert files.read(folder / "a") == b"one, two"


def test_part_of_a_file_is_read(files, folder):
    write(files, folder / "a", b"0123456789")
    assert files.read(folder / "a", 3, 4) == b"3456"
    assert files.read(folder / "a", 3) == b"3456789"
    assert files.read(folder / "a", 8, 100) == b"89"
    assert files.read(folder / "a", 100, 1) == b""


def test_new_file_is_empty_and_there(files, folder):
    files.create(folder / "a").close()
    assert files.exists(folder / "a")
    assert files.read(folder / "a") == b""


def test_name_that_is_taken_is_not_made_again(files, folder):
    write(files, folder / "a", b"first")
    with pytest.raises(FileExistsError):
        files.create(folder / "a")
    assert files.read(folder / "a") == b"first"


def test_file_in_no_folder_cannot_be_made(files, folder):
    with pytest.raises(FileNotFoundError):
        files.create(folder / "nowhere" / "a")


def test_closing_twice_is_fine(files, folder):
    file = files.create(folder / "a")
    file.close()
    file.close()


def test_absent_file_is_not_found(files, folder):
    absent = folder / "absent"
    assert not files.exists(absent)
    for call in (
        lambda: files.read(absent),
        lambda: files.info(absent),
        lambda: files.touch(absent, 1.0),
        lambda: files.replace(absent, folder / "b"),
        lambda: files.link(absent, folder / "b"),
        lambda: files.sync_file(absent),
        lambda: files.sync_directory(absent),
    ):
        with pytest.raises(FileNotFoundError):
            call()


def test_folder_is_no_file(files, folder):
    assert not files.exists(folder)


def test_folders_are_made_with_those_above_them(files, folder):
    files.make_directory(folder / "b" / "c")
    write(files, folder / "b" / "c" / "a")
    write(files, folder / "b" / "a")
    assert names(files, folder / "b") == ["a"]


def test_making_a_folder_twice_keeps_what_is_in_it(files, folder):
    write(files, folder / "a")
    files.make_directory(folder)
    assert names(files, folder) == ["a"]


def test_list_says_name_size_and_time(files, folder):
    write(files, folder / "a", b"12345")
    files.touch(folder / "a", 500.0)
    (info,) = files.list(folder)
    assert info == files.info(folder / "a")
    assert (info.path, info.size_bytes, info.modified_at_s) == (folder / "a", 5, 500.0)


def test_list_leaves_out_folders_and_what_is_in_them(files, folder):
    files.make_directory(folder / "b")
    write(files, folder / "b" / "below")
    write(files, folder / "a")
    assert names(files, folder) == ["a"]


def test_folder_that_is_not_there_lists_nothing(files, folder):
    assert list(files.list(folder / "nowhere")) == []


def test_folders_in_a_folder_are_named_in_order_without_files_and_what_is_below(files, folder):
    for path in (folder / "b" / "below", folder / "a"):
        files.make_directory(path)
    files.create(folder / "file").close()
    assert list(files.folders(folder)) == [folder / "a", folder / "b"]


def test_folder_that_is_not_there_has_no_folders(files, folder):
    assert list(files.folders(folder / "nowhere")) == []


def test_files_may_be_dropped_while_they_are_listed(files, folder):
    for name in ("a", "b", "c"):
        write(files, folder / name)
    for info in files.list(folder):
        for other in ("a", "b", "c"):
            if other != info.path.name:
                files.remove(folder / other)
    assert len(names(files, folder)) == 1


def test_writing_makes_a_file_young_again(files, folder):
    file = files.create(folder / "a")
    files.touch(folder / "a", 500.0)
    file.write(b"more")
    assert files.info(folder / "a").modified_at_s > 500.0


def test_rename_replaces_what_is_there(files, folder):
    write(files, folder / "a", b"new")
    write(files, folder / "b", b"old")
    files.replace(folder / "a", folder / "b")
    assert names(files, folder) == ["b"]
    assert files.read(folder / "b") == b"new"


def test_rename_between_two_names_of_one_file_does_nothing(files, folder):
    write(files, folder / "a")
    assert files.link(folder / "a", folder / "b")
    files.replace(folder / "a", folder / "b")
    assert names(files, folder) == ["a", "b"]


def test_second_name_shares_the_bytes(files, folder):
    file = files.create(folder / "a")
    assert files.link(folder / "a", folder / "b")
    file.write(b"later")
    files.remove(folder / "a")
    assert files.read(folder / "b") == b"later"


def test_second_name_that_is_taken_is_refused(files, folder):
    write(files, folder / "a", b"a")
    write(files, folder / "b", b"b")
    with pytest.raises(FileExistsError):
        files.link(folder / "a", folder / "b")
    assert files.read(folder / "b") == b"b"


def test_removing_an_absent_file_is_fine(files, folder):
    write(files, folder / "a")
    files.remove(folder / "a")
    files.remove(folder / "a")
    assert names(files, folder) == []


def test_name_can_be_used_again_while_the_old_file_is_still_written(files, folder):
    old = files.create(folder / "a")
    files.remove(folder / "a")
    write(files, folder / "a", b"new")
    old.write(b"old")
    assert files.read(folder / "a") == b"new"


def test_syncing_a_file_and_its_name_changes_neither(files, folder):
    write(files, folder / "a")
    files.sync_file(folder / "a")
    files.sync_directory(folder)
    assert files.read(folder / "a") == b"data"
