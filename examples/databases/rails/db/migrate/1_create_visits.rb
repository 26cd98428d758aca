class CreateVisits < ActiveRecord::Migration[7.2]
  def change = create_table(:visits, &:timestamps)
end
