-- Bytes of the file that are free to be used again.
select freelist_count * page_size from pragma_freelist_count, pragma_page_size
